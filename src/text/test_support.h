// For the tests of this folder: random text, and a small tokenizer to run it through.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "text/tokenizer_trainer.h"
#include "text/utf8.h"

namespace moiety::text {

// Valid UTF-8 from ASCII, white space, marks that combine, and the rest of Unicode.
inline std::string random_text(uint64_t seed, size_t chars) {
  static constexpr char32_t kFavourites[] = {
      ' ',   ' ',    '\n', '\t',   'a',    'b',    '1',    '\'',   's',     0xe9,  0x301,
      0x323, 0x3000, 0xa0, 0x4e2d, 0x1100, 0x1161, 0xac00, 0xfb01, 0x1f642, 0x200d};
  Random random(seed);
  std::string text;
  while (chars-- > 0) {
    const uint64_t kind = random.below(4);
    char32_t code = kFavourites[random.below(std::size(kFavourites))];
    if (kind == 1) code = static_cast<char32_t>(random.below(0x80));
    if (kind == 2) code = static_cast<char32_t>(random.below(0x500));
    if (kind == 3) code = static_cast<char32_t>(random.below(0x110000));
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    append_utf8(text, code);
  }
  return text;
}

inline std::string random_bytes(uint64_t seed, size_t count) {
  Random random(seed);
  std::string bytes;
  while (count-- > 0) bytes += static_cast<char>(random.below(256));
  return bytes;
}

// Learnt from a few sentences: bytes, some merges, "<|endoftext|>" as id 0.
inline spec::TokenizerSpec small_tokenizer(int vocab_size = 400) {
  static constexpr std::string_view kText =
      "the router sends the token to the expert that the router likes; don't they're 1234 12 "
      "12\n\n  the the thé thé größer größe größten 中文字 中文 的 的 的 aaaa aaaa aaaaaaaa\n    "
      "abab "
      "abababab 🙂🙂 🙂 router routers routing the end";
  return train_tokenizer({&kText, 1}, {.vocab_size = vocab_size});
}

}  // namespace moiety::text
