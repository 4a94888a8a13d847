# html.pl FROM OUT [foreign]: the DocBook pages FROM/*.html as plain text, OUT/name.txt: a line a paragraph, code as it
# stands, no navigation, no indexes. foreign: paragraphs that nobody has translated from English are left out.
use strict;
use warnings;
use File::Glob ':bsd_glob';  # a space in a path is no separator
require(($0 =~ s{[^/]*\z}{}r) . 'files.pm');

my ($from, $out, $foreign) = @ARGV;
my %entity = (lt => '<', gt => '>', quot => '"', apos => "'", nbsp => ' ', amp => '&');
my $skipped = qr/\b(?:class="(?:nav\w+|docnav[^"]*|toc|lot|list-of-\w+|indexterm)"|id="(?:banner|title)")/;
my $block = qr/address|blockquote|body|br|dd|div|dl|dt|h[1-6]|hr|li|ol|p|table|tbody|thead|tr|ul/;

sub decode {
  my ($text) = @_;
  $text =~ s/&#x([0-9a-fA-F]+);/pack 'U', hex $1/ge;
  $text =~ s/&#(\d+);/pack 'U', $1/ge;
  $text =~ s/&(\w+);/$entity{$1} \/\/ "&$1;"/ge;
  return $text;
}

# The paragraphs of a page: walks over its tags.
sub paragraphs {
  my ($html) = @_;
  my ($text, $code, $skip, $depth, @paragraphs) = ('', 0, '', 0);
  my $end = sub {
    $text = decode($text);
    if ($code) { $text =~ s/\A\n+|\s+\z//g }
    else { $text =~ s/\s+/ /g; $text =~ s/\A | \z//g; $text =~ s/\A\* ?\z// }
    push @paragraphs, $text if $text ne '' && !($foreign && is_english($text));
    $text = '';
  };
  for my $part ($html =~ /<[^>]*>|[^<]+/g) {
    my ($closes, $name) = $part =~ m{\A<(/?)([a-zA-Z][a-zA-Z0-9]*)};
    if ($skip ne '') {
      $depth += $closes ? -1 : 1 if defined $name && $name eq $skip && $part !~ m{/>\z};
      $skip = '' if $depth == 0;
    } elsif (!defined $name) {
      $text .= $part unless $part =~ /\A<[!?]/;
    } elsif (!$closes && $part !~ m{/>\z} && ($part =~ $skipped || $name =~ /\A(?:head|script|style)\z/)) {
      ($skip, $depth) = ($name, 1);
    } elsif ($name =~ /\A(?:pre)\z/) {
      $end->();
      $code = !$closes;
    } elsif (!$code && $name =~ /\A$block\z/) {
      $end->() unless $text =~ /\A\s*\*\s*\z/;
      $text = '* ' if $name eq 'li' && !$closes;
    } elsif ($name =~ /\At[dh]\z/ && $closes) {
      $text .= ' | ';
    }
  }
  $end->();
  return @paragraphs;
}

for my $path (sort glob "$from/*.html") {
  my ($name) = $path =~ m{([^/]+)\.html\z};
  next if $name =~ /\A(?:bookindex|index|ix\d+|legalnotice)\z/;
  my $html = slurp($path);
  utf8::decode($html);
  my $text = join "\n\n", paragraphs($html);
  next if length $text < 200;
  open my $file, '>:utf8', "$out/$name.txt" or die "$out: $!\n";
  print $file "$text\n";
  close $file or die "$out: $!\n";
}
