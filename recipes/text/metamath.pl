# metamath.pl DATABASE.mm OUT.txt: a document a top-level block (a theorem, or several that share hypotheses), parted by
# a line with U+001E. A compressed proof "( lemmas ) LETTERS" keeps its lemmas and loses its letters: they are a
# number in base 20, not a language.
use strict;
use warnings;

my ($from, $to) = @ARGV;
open my $in, '<:raw', $from or die "$from: $!\n";
my $database = do { local $/; <$in> };
close $in;
$database =~ s/(\$=\s*\([^)]*\))[A-Z\s?]*\$\./$1 \$./g;

# A block ends at a blank line outside of ${ ... $} and of comments.
my ($depth, $comment, $document, @documents) = (0, 0, '');
for my $line (split /\n/, $database) {
  if ($line eq '' && $depth == 0 && !$comment) {
    push @documents, $document if $document ne '';
    $document = '';
    next;
  }
  $document .= "$line\n";
  for my $token ($line =~ /\$[(){}]/g) {
    if ($token eq '$(') { $comment = 1 }
    elsif ($token eq '$)') { $comment = 0 }
    elsif (!$comment) { $depth += $token eq '${' ? 1 : -1 }
  }
}
push @documents, $document if $document ne '';

open my $out, '>:raw', $to or die "$to: $!\n";
print $out join "\n\x1e\n", @documents;
close $out or die "$to: $!\n";
