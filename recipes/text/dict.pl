# dict.pl NAME FOLDER OUT [EVERY]: a dictd dictionary (NAME.index, NAME.dict.dz) as OUT/NAME.txt: entries in the order
# of the dictionary, gathered into documents of about 2 kB parted by a line with U+001E. EVERY keeps one in so many.
use strict;
use warnings;
require(($0 =~ s{[^/]*\z}{}r) . 'files.pm');

my ($name, $folder, $out, $every) = (@ARGV, 1);
my %digit;
@digit{'A' .. 'Z', 'a' .. 'z', 0 .. 9, '+', '/'} = 0 .. 63;

sub number {
  my $value = 0;
  $value = $value * 64 + $digit{$_} for split //, shift;
  return $value;
}

open my $index, '<', "$folder/$name.index" or die "$folder/$name.index: $!\n";
my %end;  # offset of an entry -> its end; many headwords may share one entry
while (<$index>) {
  chomp;
  my ($headword, $offset, $length) = split /\t/;
  next if $headword =~ /^00-?database/;
  $end{number($offset)} = number($offset) + number($length);
}
close $index;

my $text = output_of('gzip -dc < "$1"', "$folder/$name.dict.dz");
my (@documents, $group);
for my $offset (sort { $a <=> $b } keys %end) {
  die "$name: an entry ends at $end{$offset}, past the end\n" if $end{$offset} > length $text;
  my $entry = substr $text, $offset, $end{$offset} - $offset;
  $entry =~ s/\n\s*\[(?:1913 Webster|Webster 1913 Suppl\.)\]//g;  # in gcide after every sense
  $entry =~ s/^\n+//;
  $entry =~ s/\s+\z//;
  next if $entry eq '';
  $group = defined $group ? "$group\n\n$entry" : $entry;
  next if length $group < 2000;
  push @documents, $group;
  undef $group;
}
push @documents, $group if defined $group;

open my $file, '>:raw', "$out/$name.txt" or die "$out: $!\n";
print $file join "\n\x1e\n", map { "$documents[$_]\n" } grep { $_ % $every == 0 } 0 .. $#documents;
close $file or die "$out: $!\n";
