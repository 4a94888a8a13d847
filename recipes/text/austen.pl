# austen.pl DATA OUT: the novels of R's janeaustenr as one text file each, chapters parted by a line with U+001E.
# DATA is the folder with Rdata.rdx (an index of offsets) and Rdata.rdb (serialised character vectors, one zlib stream
# each). Read here without R: a vector is a header, then for every line 4 bytes of flags, 4 of length, and the bytes.
use strict;
use warnings;
require(($0 =~ s{[^/]*\z}{}r) . 'files.pm');

my ($data, $out) = @ARGV;
my %names = (emma => 'emma', mansfieldpark => 'mansfield-park', northangerabbey => 'northanger-abbey',
  persuasion => 'persuasion', prideprejudice => 'pride-and-prejudice', sensesensibility => 'sense-and-sensibility');

sub lines_of {
  my ($vector) = @_;
  my ($at, @lines) = (14, ());
  $at += 4 + unpack 'N', substr $vector, $at, 4;  # the name of the encoding
  my ($type, $count) = unpack 'NN', substr $vector, $at, 8;
  die "janeaustenr: expected a character vector\n" unless ($type & 0xff) == 16;
  $at += 8;
  for (1 .. $count) {
    my $length = unpack 'N', substr $vector, $at + 4, 4;
    push @lines, substr $vector, $at + 8, $length;
    $at += 8 + $length;
  }
  return @lines;
}

my $index = output_of('gzip -dc < "$1"', "$data/Rdata.rdx");
my @parts;
push @parts, [unpack 'N2', $1] while $index =~ /\x00\x00\x00\x0d\x00\x00\x00\x02(.{8})/sg;
my @found = grep { exists $names{$_} } $index =~ /\x00\x04\x00\x09\x00\x00\x00.([a-z]+)/sg;
die "janeaustenr: expected 6 novels, found @{[scalar @found]}\n" unless @found == 6 && @parts == 6;

my $rdb = slurp("$data/Rdata.rdb");
for my $i (0 .. $#found) {
  my ($offset, $length) = @{$parts[$i]};
  my $stream = substr $rdb, $offset, $length;
  my $text = join "\n", lines_of(inflate(substr($stream, 4), unpack('N', $stream), "$out/.stream"));
  $text =~ s/^(?=chapter [\divxlc]+\b)/\x1e\n/gim;
  open my $file, '>:raw', "$out/$names{$found[$i]}.txt" or die "$out: $!\n";
  print $file "$text\n";
  close $file or die "$out: $!\n";
}
