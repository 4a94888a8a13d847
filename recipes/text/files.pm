# What the converters share: whole files, zlib streams without a zlib module (perl-base has none), and a guess at what
# translators have left in English.
use strict;
use warnings;

sub slurp {
  my ($path) = @_;
  open my $file, '<:raw', $path or die "$path: $!\n";
  local $/;
  return scalar <$file>;
}

# What a shell command writes; its arguments are $1, $2, ...
sub output_of {
  my ($command, @arguments) = @_;
  open my $pipe, '-|', 'sh', '-c', $command, 'sh', @arguments or die "sh: $!\n";
  local $/;
  return scalar(<$pipe>) // '';
}

# gzip reads a zlib stream once its head is exchanged; its checksum differs, so the length is what we check.
sub inflate {
  my ($stream, $length, $scratch) = @_;
  open my $file, '>:raw', $scratch or die "$scratch: $!\n";
  print $file "\x1f\x8b\x08\0\0\0\0\0\0\3", substr($stream, 2, -4), "\0" x 8;
  close $file or die "$scratch: $!\n";
  my $text = output_of('gzip -dc < "$1" 2>/dev/null', $scratch);
  unlink $scratch;
  die "a zlib stream unpacked to @{[length $text]} bytes instead of $length\n" if length $text != $length;
  return $text;
}

sub is_english {
  my @words = split /\W+/, lc shift;
  return @words >= 8 && 100 * (grep { /\A(?:the|of|and|to|is|that|for|with|this|are|it|be)\z/ } @words) >= 15 * @words;
}

1;
