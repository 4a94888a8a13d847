# man.pl MANDIR OUT SECTIONS: the gzipped man pages of one language as plain text, OUT/ls.1.txt, through mandoc. Leaves
# out pages that only point elsewhere, the running head and foot, the translators' note at the end, paragraphs left in
# English, the sections that a hundred pages repeat word for word, and the listings of D-Bus interfaces (org.*).
use strict;
use warnings;
use File::Glob ':bsd_glob';  # a space in a path is no separator
require(($0 =~ s{[^/]*\z}{}r) . 'files.pm');

my ($from, $out, $sections) = @ARGV;
my $note = qr/ÜBERSETZUNG|TRADUCTION|TRADUCCIÓN/;
my $repeated = qr/COPYRIGHT|FEHLER\ MELDEN|VERFÜGBARKEIT|SIGNALER\ DES\ BOGUES|SIGNALEMENT\ DES\ BOGUES
  |RAPPORTER\ DES\ BOGUES|DISPONIBILITÉ|INFORMAR\ DE\ ERRORES|DERECHOS\ DE\ AUTOR|DISPONIBILIDAD/x;

sub page {
  my ($path) = @_;
  my $source = output_of('gzip -dc < "$1"', $path);
  return '' if $source =~ /\A(?:\.\\".*\n|\s*\n)*\.so /;  # a link to another page

  my $text = output_of('gzip -dc < "$1" | mandoc -K utf-8 -T utf8 -O width=100 2>/dev/null', $path);
  $text =~ s/(?:[\xc2-\xf4][\x80-\xbf]+|.)\x08//g;  # bold is a letter struck twice
  $text =~ s/\A[^\n]*\n//;                          # head
  $text =~ s/\n[^\n]*\n*\z/\n/;                     # foot
  $text =~ s/^$note[ \t]*\n.*\z//ms;
  $text =~ s/^(?:$repeated)[ \t]*\n(?:[ \t].*\n|\n)*//mg;
  $text =~ s/\xc2\xa0/ /g;                          # a space that doesn't break
  $text =~ s/\A\s*\n|\s+\z//g;
  return join "\n\n", grep { !is_english($_) } split /\n{2,}/, $text;
}

# Two processes: mandoc takes most of the time.
my @pages = sort grep { m{/man[$sections]/(?!org\.)[^/]+\.gz\z} && !-l } glob "$from/man*/*.gz";
my $child = fork // die "fork: $!\n";
for my $i (grep { $_ % 2 == ($child ? 0 : 1) } 0 .. $#pages) {
  my ($name) = $pages[$i] =~ m{([^/]+)\.gz\z};
  my $text = page($pages[$i]);
  next if length $text < 200;
  open my $file, '>:raw', "$out/$name.txt" or die "$out: $!\n";
  print $file "$text\n";
  close $file or die "$out: $!\n";
}
exit 0 unless $child;
waitpid $child, 0;
exit($? ? 1 : 0);
