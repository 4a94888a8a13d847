// What a tokenizer is: vocabulary, how pieces of text become tokens, the steps before and after.
// Plain data, read from tokenizer.json, GGUF metadata or sentencepiece's .model (format/), written
// by the trainer, run by text/Tokenizer.
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

enum class NormalForm { Nfc, Nfd, Nfkc, Nfkd };

// One step that rewrites the text before it is split.
struct Normalizer {
  enum class Kind {
    Unicode,        // to `form`
    Lowercase,      //
    Strip,          // white space at the `left` and `right` end
    StripAccents,   // every combining mark
    Prepend,        // `content`, to a text that isn't empty
    Replace,        // every match of `pattern` by `content`
    Nmt,            // control characters away, odd white space to spaces
    Charsmap,       // `charsmap` over grapheme clusters, as Hugging Face does
    Bert,           // clean_text, separate_chinese, strip_accents, lowercase
    ByteLevel,      // bytes to GPT-2's printable characters
    SentencePiece,  // all that sentencepiece does before it splits: `charsmap` by the longest match
                    // and the four fields that are named as in its file
  };
  Kind kind = Kind::Unicode;
  NormalForm form = NormalForm::Nfc;
  std::string pattern;  // an Oniguruma expression if `is_regex`, else the text itself
  bool is_regex = false;
  std::string content;
  std::string charsmap;  // sentencepiece's compiled table (text/charsmap.h); may be empty

  bool left = true, right = true;  // Strip

  bool clean_text = true, separate_chinese = true, strip_accents = false, lowercase = false;

  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;

  bool operator==(const Normalizer&) const = default;
};

struct PreTokenizer {
  enum class Kind {
    Split,      // by `pattern`, an Oniguruma expression
    Digits,     // every digit by itself, or runs of digits
    ByteLevel,  // GPT-2's split if `use_regex`; then bytes become printable characters
    Metaspace,  // spaces become `replacement`, one is put before the text, cut before each
  };
  enum class Behavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };
  enum class Prepend { Always, First, Never };  // First: only to what begins the whole text

  Kind kind = Kind::ByteLevel;
  std::string pattern;
  Behavior behavior = Behavior::Isolated;
  bool invert = false;  // Split: the pattern matches what stays together, not what separates
  bool individual_digits = true;  // Digits
  bool add_prefix_space = false;  // ByteLevel
  bool use_regex = true;          // ByteLevel
  std::string replacement = "▁";  // Metaspace
  Prepend prepend = Prepend::Always;
  bool split = true;  // Metaspace

  bool operator==(const PreTokenizer&) const = default;
};

// One step from the tokens' texts to the text.
struct Decoder {
  enum class Kind {
    ByteLevel,     // printable characters back to bytes
    ByteFallback,  // runs of <0xNN> to what they spell in UTF-8
    Fuse,          // from here on there is one text, no tokens
    Replace,       // every match of `pattern` by `content`
    Strip,         // `content`, at most `start` times at the beginning and `stop` at the end
    Metaspace,     // `content` to spaces; in the first token to nothing if `drops_first`
    WordPiece,     // joins what begins with `content`, spaces between the rest; `cleanup`
    WordEnd,       // `content` at a token's end is a space, but at the last token's nothing
    Spaces,        // a space between tokens: what the library does where a file names no decoder
  };
  Kind kind = Kind::ByteLevel;
  std::string pattern;
  bool is_regex = false;
  std::string content;
  int start = 0, stop = 0;
  bool drops_first = true;
  bool cleanup = true;
  // ByteFallback. Of a run with a byte that is no UTF-8, U+FFFD stands for every byte
  // (Hugging Face), or only for the wrong ones (sentencepiece).
  bool spoils_run = true;

  bool operator==(const Decoder&) const = default;
};

// What sentencepiece and GGUF say of each token.
enum class TokenType : uint8_t {
  Normal = 1,
  Unknown = 2,
  Control = 3,      // never found in text by splitting
  UserDefined = 4,  // always found
  Unused = 5,       // never found
  Byte = 6,         // <0xNN>
};

struct TokenizerSpec {
  enum class Model {
    BytePairs,  // joins neighbours, the pair that was learnt first at first
    Unigram,    // the likeliest cut
    WordPiece,  // the longest token, then the longest that goes on
  };
  Model model = Model::BytePairs;

  // By id, spelt as in the file ("Ġthe", "▁the"); added tokens as they are written. Ids without a
  // token are empty strings.
  std::vector<std::string> tokens;
  // By id or empty: logarithms of probabilities (Unigram), or which pair is joined first (below).
  std::vector<double> scores;
  // By id, or empty: all are normal.
  std::vector<TokenType> types;

  // By rank: ids of the pair. The result is the token whose text is both texts joined.
  struct Merge {
    int32_t left = 0, right = 0, result = 0;
  };
  std::vector<Merge> merges;
  // sentencepiece's way, instead of `merges`: any two neighbours that make a token are joined, the
  // token of the greatest score first.
  bool merges_by_score = false;
  bool ignore_merges =
      false;             // a piece that is a token as a whole is taken as it is (tiktoken's way)
  int32_t unknown = -1;  // the id for what is no token; -1: it is left out
  bool fuse_unknown = false;   // one `unknown` for a run
  bool byte_fallback = false;  // a character that is no token becomes its bytes' tokens <0xNN>
  std::string word_prefix;     // BytePairs, WordPiece: before what doesn't begin a word ("##")
  std::string word_suffix;     // BytePairs: after what ends a word ("</w>")
  int32_t longest_word = 100;  // WordPiece: a longer one, in characters, is unknown
  // Unigram as sentencepiece's own library computes it: sums in float, user-defined tokens above
  // all others. Else as Hugging Face's does.
  bool like_sentencepiece = false;

  std::vector<AddedToken> added;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  std::vector<Decoder> decoders = {{.kind = Decoder::Kind::ByteLevel}};

  // Ids put before and after the text when special tokens are asked for.
  std::vector<int32_t> prefix, suffix;

  TokenType type_of(int32_t id) const { return types.empty() ? TokenType::Normal : types[id]; }
};

// Byte pairs of bytes, spelt in GPT-2's printable alphabet, rather than of characters.
bool is_byte_level(const TokenizerSpec& spec);

// In a few words, for people.
std::string describe(const TokenizerSpec& spec);

// The byte that "<0xNN>" stands for; -1 for any other text.
int byte_of_token(const std::string& token);

// More than any tokenizer has by far; keeps an absurd id from asking for absurd memory.
inline constexpr int32_t kMostTokens = 1 << 21;

// Throws Error(Input) unless every id is one of a token and every list is as long as it must be.
// `where` names the file that said so.
void check(const TokenizerSpec& spec, const std::string& where);

}  // namespace moiety::spec
