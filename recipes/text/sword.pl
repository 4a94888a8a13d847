# sword.pl FOLDER OUT: a SWORD zText Bible with OSIS markup, a file a chapter, named as kjv.pl names them. For each
# testament .bzs lists the zlib blocks of .bzz, and .bzv says where in which block a verse lies.
use strict;
use warnings;
require(($0 =~ s{[^/]*\z}{}r) . 'files.pm');

my ($folder, $out) = @ARGV;

sub plain {
  my ($osis) = @_;
  $osis =~ s/<title[^>]*>.*?<\/title>//gs;
  $osis =~ s/<note\b.*?<\/note>//gs;
  $osis =~ s/<[^>]*>//g;
  $osis =~ s/&lt;/</g;
  $osis =~ s/&gt;/>/g;
  $osis =~ s/&quot;/"/g;
  $osis =~ s/&amp;/&/g;
  $osis =~ s/\s+/ /g;
  $osis =~ s/^ | $//g;
  return $osis;
}

my ($name, $verse, $file) = ('', 0, undef);
for my $testament ('ot', 'nt') {
  my $blocks = slurp("$folder/$testament.bzs");
  my $packed = slurp("$folder/$testament.bzz");
  my $verses = slurp("$folder/$testament.bzv");
  my ($loaded, $text) = (-1, '');
  for (my $at = 0; $at < length $verses; $at += 10) {
    my ($block, $start, $length) = unpack 'VVv', substr $verses, $at, 10;
    next if $length == 0;
    if ($block != $loaded) {
      my ($offset, $size, $full) = unpack 'V3', substr $blocks, $block * 12, 12;
      $text = inflate(substr($packed, $offset, $size), $full, "$out/.stream");
      $loaded = $block;
    }
    my $osis = substr $text, $start, $length;
    $name = $1 if $osis =~ /<title level="1"[^>]*>([^<]*)</;
    if ($osis =~ /<chapter [^>]*osisID="(\w+)\.(\d+)"/) {
      open $file, '>:raw', sprintf('%s/%s-%03d.txt', $out, lc $1, $2) or die "$out: $!\n";
      print $file "$name $2\n\n";
      $verse = 0;
    }
    my $line = plain($osis);
    print $file ++$verse, " $line\n" if $file && $line ne '';
  }
}
