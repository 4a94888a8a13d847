# kjv.pl OUT < `bible -f gen1:1-rev22:21`: a file a chapter, named by OSIS book and number, so that translations of a
# chapter bear the same name. Lines come as "Ge1:1 In the beginning ...".
use strict;
use warnings;

my ($out) = @ARGV;
my @books = split /;/, 'Gen Genesis;Exod Exodus;Lev Leviticus;Num Numbers;Deut Deuteronomy;Josh Joshua;Judg Judges;'
  . 'Ruth Ruth;1Sam 1 Samuel;2Sam 2 Samuel;1Kgs 1 Kings;2Kgs 2 Kings;1Chr 1 Chronicles;2Chr 2 Chronicles;Ezra Ezra;'
  . 'Neh Nehemiah;Esth Esther;Job Job;Ps Psalm;Prov Proverbs;Eccl Ecclesiastes;Song Song of Solomon;Isa Isaiah;'
  . 'Jer Jeremiah;Lam Lamentations;Ezek Ezekiel;Dan Daniel;Hos Hosea;Joel Joel;Amos Amos;Obad Obadiah;Jonah Jonah;'
  . 'Mic Micah;Nah Nahum;Hab Habakkuk;Zeph Zephaniah;Hag Haggai;Zech Zechariah;Mal Malachi;Matt Matthew;Mark Mark;'
  . 'Luke Luke;John John;Acts Acts;Rom Romans;1Cor 1 Corinthians;2Cor 2 Corinthians;Gal Galatians;Eph Ephesians;'
  . 'Phil Philippians;Col Colossians;1Thess 1 Thessalonians;2Thess 2 Thessalonians;1Tim 1 Timothy;2Tim 2 Timothy;'
  . 'Titus Titus;Phlm Philemon;Heb Hebrews;Jas James;1Pet 1 Peter;2Pet 2 Peter;1John 1 John;2John 2 John;'
  . '3John 3 John;Jude Jude;Rev Revelation';

my ($book, $chapter, $file, $before) = (-1, 0, undef, '');
while (<STDIN>) {
  my ($short, $number, $verse, $text) = /^(\d?[A-Za-z]+)(\d+):(\d+) (.*)/ or next;
  ++$book if $short ne $before;
  if ($short ne $before || $number != $chapter) {
    my ($code, $name) = split / /, $books[$book] // die("more books than 66\n"), 2;
    open $file, '>:raw', sprintf('%s/%s-%03d.txt', $out, lc $code, $number) or die "$out: $!\n";
    print $file "$name $number\n\n";
    ($before, $chapter) = ($short, $number);
  }
  print $file "$verse $text\n";
}
die "expected 66 books, found ${\($book + 1)}\n" unless $book == $#books;
