#include "format/gguf_pre_tokenizers.h"

#include <algorithm>

#include "format/tokenizer_json_names.h"

namespace moiety::format {
namespace {

using spec::Normalizer;
using spec::PreTokenizer;
using Steps = std::vector<PreTokenizer>;

PreTokenizer split(std::string pattern,
                   PreTokenizer::Behavior behavior = PreTokenizer::Behavior::Isolated) {
  PreTokenizer step;
  step.kind = PreTokenizer::Kind::Split;
  step.pattern = std::move(pattern);
  step.behavior = behavior;
  return step;
}

PreTokenizer digits(bool individual) {
  PreTokenizer step;
  step.kind = PreTokenizer::Kind::Digits;
  step.individual_digits = individual;
  return step;
}

PreTokenizer byte_level(bool use_regex) {
  PreTokenizer step;
  step.use_regex = use_regex;
  return step;
}

Steps by_pattern(std::string pattern) { return {split(std::move(pattern)), byte_level(false)}; }

Steps gpt2() { return {byte_level(true)}; }

Steps starcoder() { return {digits(true), byte_level(true)}; }

Steps falcon() {
  return {split(kPunctuation, PreTokenizer::Behavior::Contiguous), byte_level(true), digits(false),
          split("[0-9][0-9][0-9]")};
}

// What llama.cpp does with a file that doesn't know better.
Steps unnamed() {
  return {split("[\\p{P}\\$\\+<=>\\^~\\|]+"),
          split("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"),
          split("\\p{N}+"), split("[0-9][0-9][0-9]"), byte_level(false)};
}

constexpr const char* kLlama3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen2 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen35 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kGpt4o =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kTekken =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kBailing =
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";

constexpr const char* kSeedCoder =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| "
    "?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
// As gpt-4o, with Chinese characters by themselves.
constexpr const char* kKimi =
    "\\p{Han}+|"
    "[^\\r\\n\\p{L}\\p{N}]?(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])*"
    "(?:(?!\\p{Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])+"
    "(?:(?!\\p{Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kBloom = " ?[^(\\s|.,!?…。，、।۔،)]+";

constexpr const char* kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr const char* kHanAndHangul = "[一-龥ࠀ-一가-퟿]+";
constexpr const char* kDeepSeekV3 =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
// Letters of the scripts that have capitals. Those that an editor might normalise are escaped.
constexpr const char* kDeepSeekLetters =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ"
    "Ἐ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ"
    "\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

Steps deepseek_llm() {
  return {split("[\r\n]"),  split(kDeepSeekLetters), split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
          split("\\s+$"),   split(kHanAndHangul),    digits(true),
          byte_level(false)};
}

Steps deepseek_coder() {
  return {split("[\r\n]"),      split("\\s?\\p{L}+"), split("\\s?\\p{P}+"),
          split(kHanAndHangul), digits(true),         byte_level(false)};
}

Steps deepseek_v3() {
  return {split("\\p{N}{1,3}"), split(kHanAndKana), split(kDeepSeekV3), byte_level(false)};
}

// Among rows that say the same, the writer takes the first.
const std::vector<GgufPreTokenizer>& table() {
  const std::vector<Normalizer> nfc = {{.form = spec::NormalForm::Nfc}};
  static const std::vector<GgufPreTokenizer> rows = {
      {"gpt-2", gpt2()},
      {"phi-2", gpt2()},
      {"jais", gpt2()},
      {"exaone4", gpt2()},
      {"roberta-bpe", gpt2()},
      {"olmo", gpt2(), nfc},
      {"mpt", gpt2(), nfc},
      {"modern-bert", gpt2(), nfc},
      {"default", unnamed()},
      {"falcon", falcon()},
      {"starcoder", starcoder()},
      {"refact", starcoder()},
      {"smollm", starcoder()},
      {"codeshell", starcoder()},
      {"minerva-7b", starcoder()},
      {"command-r", starcoder(), nfc},
      {"exaone", starcoder(), nfc},
      {"qwen2", by_pattern(kQwen2), nfc},
      {"deepseek-r1-qwen", by_pattern(kQwen2), nfc},
      {"megrez", by_pattern(kQwen2), nfc},
      {"stablelm2", by_pattern(kQwen2)},
      {"hunyuan", by_pattern(kQwen2)},
      {"grok-2", by_pattern(kQwen2)},
      {"qwen35", by_pattern(kQwen35), nfc},
      {"llama-bpe", by_pattern(kLlama3), {}, true, true},
      {"llama3", by_pattern(kLlama3), {}, true, true},
      {"llama-v3", by_pattern(kLlama3), {}, true, true},
      {"falcon3", by_pattern(kLlama3), {}, true, true},
      {"pixtral", by_pattern(kLlama3), {}, true, true},
      {"lfm2", by_pattern(kLlama3), {}, true, true},
      {"dbrx", by_pattern(kLlama3)},
      {"smaug-bpe", by_pattern(kLlama3)},
      {"glm4", by_pattern(kLlama3)},
      {"chatglm-bpe", by_pattern(kLlama3)},
      {"gpt-4o", by_pattern(kGpt4o), {}, true},
      {"gpt-4o", by_pattern(kGpt4o)},  // for the writer: llama.cpp applies the merges
      {"llama4", by_pattern(kGpt4o), {}, true},
      {"kanana2", by_pattern(kGpt4o)},
      {"minimax-m2", by_pattern(kGpt4o)},
      {"tekken", by_pattern(kTekken), {}, true, true},
      {"bailingmoe", by_pattern(kBailing)},
      {"deepseek-llm", deepseek_llm()},
      {"deepseek-coder", deepseek_coder()},
      {"deepseek-v3", deepseek_v3()},
      {"hunyuan-dense", deepseek_v3()},
      {"seed-coder", by_pattern(kSeedCoder)},
      {"kimi-k2", by_pattern(kKimi)},
      {"bloom", by_pattern(kBloom)},
      {"poro-chat", by_pattern(kBloom)},
      {"gpt3-finnish", by_pattern(kBloom)},
      {"viking", {split(kBloom), digits(true), byte_level(false)}},
      {"jina-v1-en", gpt2()},
      {"jina-v2-code", gpt2()},
      {"jina-es", gpt2()},
      {"jina-de", gpt2()},
      {"jina-v2-es", gpt2()},
      {"jina-v2-de", gpt2()},
      {"gigachat", gpt2()},
      {"a.x-4.0", gpt2()},
      {"mellum", gpt2()},
      {"falcon-h1", by_pattern(kLlama3), {}, true, true},
      {"midm-2.0", by_pattern(kLlama3), {}, true, true},
      {"jina-v5-nano", by_pattern(kLlama3), {}, true, true},
      {"kormo", by_pattern(kQwen2), nfc},
      {"f2llmv2", by_pattern(kQwen2), nfc},
      {"talkie", by_pattern(kGpt4o)},
      {"bailingmoe2", by_pattern(kBailing)},
      {"llada-moe", by_pattern(kBailing)},
  };
  return rows;
}

// Line ends may be written as escapes or as themselves.
std::string plain_line_ends(std::string_view pattern) {
  std::string plain;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char next = pattern[i] == '\\' && i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (next == '\0') {
      plain += pattern[i];
      continue;
    }
    ++i;
    if (next == 'r' || next == 'n') {
      plain += next == 'r' ? '\r' : '\n';
    } else {
      plain += {'\\', next};
    }
  }
  return plain;
}

bool same_step(const PreTokenizer& a, const PreTokenizer& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case PreTokenizer::Kind::Split:
      return plain_line_ends(a.pattern) == plain_line_ends(b.pattern) && a.behavior == b.behavior &&
             a.invert == b.invert;
    case PreTokenizer::Kind::Digits:
      return a.individual_digits == b.individual_digits;
    case PreTokenizer::Kind::Metaspace:
      return a == b;
    case PreTokenizer::Kind::ByteLevel:
      break;
  }
  return a.add_prefix_space == b.add_prefix_space && a.use_regex == b.use_regex;
}

}  // namespace

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  const auto row =
      std::find_if(table().begin(), table().end(), [&](const auto& r) { return r.name == name; });
  return row == table().end() ? nullptr : &*row;
}

const GgufPreTokenizer* gguf_pre_tokenizer_of(const spec::TokenizerSpec& spec) {
  const bool nfc_at_most =
      std::all_of(spec.normalizers.begin(), spec.normalizers.end(),
                  [&](const Normalizer& step) { return step == Normalizer{}; });
  const GgufPreTokenizer* other = nullptr;
  for (const GgufPreTokenizer& row : table()) {
    if (row.ignore_merges != spec.ignore_merges ||
        !std::equal(row.steps.begin(), row.steps.end(), spec.pre_tokenizers.begin(),
                    spec.pre_tokenizers.end(), same_step)) {
      continue;
    }
    if (row.normalizers == spec.normalizers) return &row;
    if (other == nullptr && nfc_at_most) other = &row;
  }
  return other;
}

}  // namespace moiety::format
