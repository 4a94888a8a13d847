// What a byte-level BPE tokenizer is: vocabulary, merges, the steps before and after. Plain data,
// read from tokenizer.json or GGUF metadata (format/), written by the trainer, run by
// text/Tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moiety::spec {

// Text that is cut out whole before anything else looks at it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // left out of the decoded text on request
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // … and after it
  bool single_word = false;  // only where no letter or digit touches it
  bool normalized = false;   // looked for after normalisation
};

enum class Normalizer { Nfc, Nfd, Nfkc, Nfkd };

struct PreTokenizer {
  enum class Kind {
    Split,      // by `pattern`, a PCRE2 regular expression
    Digits,     // every digit by itself, or runs of digits
    ByteLevel,  // GPT-2's split if `use_regex`; then bytes become printable characters
  };
  enum class Behavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

  Kind kind = Kind::ByteLevel;
  std::string pattern;
  Behavior behavior = Behavior::Isolated;
  bool invert = false;  // Split: the pattern matches what stays together, not what separates
  bool individual_digits = true;  // Digits
  bool add_prefix_space = false;  // ByteLevel
  bool use_regex = true;          // ByteLevel
};

struct TokenizerSpec {
  // By id, in the printable alphabet of GPT-2 ("Ġthe"), as files have them; added tokens as they
  // are written. Ids without a token are empty strings.
  std::vector<std::string> tokens;
  // By rank: ids of the pair. The result is the token whose text is both texts joined.
  struct Merge {
    int32_t left = 0, right = 0, result = 0;
  };
  std::vector<Merge> merges;
  bool ignore_merges =
      false;             // a piece that is a token as a whole is taken as it is (tiktoken's way)
  int32_t unknown = -1;  // the id for a byte that is no token; -1: such bytes are left out
  bool fuse_unknown = false;  // one `unknown` for a run of such bytes

  std::vector<AddedToken> added;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;

  // Ids put before and after the text when special tokens are asked for.
  std::vector<int32_t> prefix, suffix;
};

// More than any tokenizer has by far; keeps an absurd id from asking for absurd memory.
inline constexpr int32_t kMostTokens = 1 << 21;

// Throws Error(Input) unless every id is one of a token. `where` names the file that said so.
void check(const TokenizerSpec& spec, const std::string& where);

}  // namespace moiety::spec
