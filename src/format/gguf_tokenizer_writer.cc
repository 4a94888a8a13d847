#include <algorithm>

#include "base/error.h"
#include "format/gguf_pre_tokenizers.h"
#include "format/gguf_tokenizer.h"
#include "format/sentencepiece_steps.h"
#include "spec/merges.h"

namespace moiety::format {
namespace {

using spec::TokenizerSpec;
using spec::TokenType;

std::string key(const char* name) { return std::string("tokenizer.ggml.") + name; }

const GgufPreTokenizer& pre_tokenizer_for(const TokenizerSpec& spec, const std::string& where) {
  const GgufPreTokenizer* pre = gguf_pre_tokenizer_of(spec);
  require(
      pre != nullptr,
      "{}: no GGUF name (tokenizer.ggml.pre) says how this tokenizer normalises and splits text",
      where);
  return *pre;
}

TokenType type_of(const TokenizerSpec& spec, int32_t id) {
  if (spec.byte_fallback && spec::byte_of_token(spec.tokens[id]) >= 0) return TokenType::Byte;
  return id == spec.unknown && !is_byte_level(spec) ? TokenType::Unknown : spec.type_of(id);
}

void add_tokens(const TokenizerSpec& spec, int vocab_size, GgufMetadata& metadata) {
  require(static_cast<size_t>(vocab_size) >= spec.tokens.size(),
          "{}: the tokenizer has {} tokens, but the model only {}", metadata.where,
          spec.tokens.size(), vocab_size);
  std::vector<std::string> tokens = spec.tokens;
  std::vector<int64_t> types;
  for (size_t id = 0; id < tokens.size(); ++id)
    types.push_back(static_cast<int64_t>(type_of(spec, static_cast<int32_t>(id))));
  for (const spec::AddedToken& added : spec.added) {
    const TokenType type = added.special ? TokenType::Control : TokenType::UserDefined;
    if (types[added.id] != static_cast<int64_t>(TokenType::Unknown))
      types[added.id] = static_cast<int64_t>(type);
  }
  tokens.resize(static_cast<size_t>(vocab_size));
  types.resize(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) continue;
    tokens[id] = fmt::format("[PAD{}]", id);
    types[id] = static_cast<int64_t>(TokenType::Unused);
  }
  metadata.set(key("tokens"), std::move(tokens));
  metadata.set(key("token_type"), std::move(types));
}

void add_merges(const TokenizerSpec& spec, GgufMetadata& metadata) {
  std::vector<std::string> merges;
  merges.reserve(spec.merges.size());
  for (const TokenizerSpec::Merge& merge : spec.merges) {
    merges.push_back(spec.tokens[merge.left] + ' ' + spec.tokens[merge.right]);
    require(std::count(merges.back().begin(), merges.back().end(), ' ') == 1,
            "{}: merge \"{}\" has a space in a token, which GGUF can't say", metadata.where,
            merges.back());
  }
  metadata.set(key("merges"), std::move(merges));
}

// One id around the text at most, and it must be the one that GGUF names.
void add_surrounding(const char* flag, const char* id_name, const std::vector<int32_t>& around,
                     int id, GgufMetadata& metadata) {
  require(around.size() <= 1, "{}: the tokenizer puts {} tokens around the text; GGUF can say one",
          metadata.where, around.size());
  if (id < 0 && !around.empty()) id = around[0];
  require(around.empty() || around[0] == id,
          "{}: the tokenizer puts token {} around the text, but tokenizer.ggml.{} is {}",
          metadata.where, around.empty() ? -1 : around[0], id_name, id);
  if (id >= 0) metadata.set(key(id_name), int64_t{id});
  metadata.set(key(flag), !around.empty());
}

// What llama.cpp knows only by scores.
void add_sentencepiece_kind(const TokenizerSpec& spec, int vocab_size, GgufMetadata& metadata) {
  const std::optional<SentencepieceSteps> steps = sentencepiece_steps_of(spec);
  require(steps.has_value(), "{}: GGUF can't say how this tokenizer normalises and splits text",
          metadata.where);
  const bool is_unigram = spec.model == TokenizerSpec::Model::Unigram;
  require(is_unigram || (steps->charsmap.empty() && !steps->remove_extra_whitespaces),
          "{}: llama.cpp normalises no text for sentencepiece's BPE, as this tokenizer does",
          metadata.where);
  metadata.set(key("model"), std::string(is_unigram ? "t5" : "llama"));
  metadata.set(key("pre"), std::string("default"));
  add_tokens(spec, vocab_size, metadata);

  const bool has_scores = is_unigram || spec.merges_by_score;
  std::vector<double> scores =
      has_scores ? spec.scores : spec::scores_of_merges(spec, metadata.where);
  scores.resize(static_cast<size_t>(vocab_size));
  metadata.set(key("scores"), std::move(scores));
  if (spec.unknown >= 0) metadata.set(key("unknown_token_id"), int64_t{spec.unknown});
  metadata.set(key("add_space_prefix"), steps->add_dummy_prefix);
  if (!is_unigram) return;
  metadata.set(key("remove_extra_whitespaces"), steps->remove_extra_whitespaces);
  if (steps->charsmap.empty()) return;
  std::vector<int64_t> bytes(steps->charsmap.begin(), steps->charsmap.end());
  metadata.set(key("precompiled_charsmap"), std::move(bytes));
}

}  // namespace

void add_gguf_tokenizer(const TokenizerSpec& spec, int vocab_size, int bos_token,
                        const std::vector<int>& eos_tokens, GgufMetadata& metadata) {
  if (is_byte_level(spec)) {
    metadata.set(key("model"), std::string("gpt2"));
    metadata.set(key("pre"), std::string(pre_tokenizer_for(spec, metadata.where).name));
    add_tokens(spec, vocab_size, metadata);
    add_merges(spec, metadata);
  } else {
    require(spec.model != TokenizerSpec::Model::WordPiece, "{}: WordPiece is not written to GGUF",
            metadata.where);
    add_sentencepiece_kind(spec, vocab_size, metadata);
  }
  add_surrounding("add_bos_token", "bos_token_id", spec.prefix, bos_token, metadata);
  add_surrounding("add_eos_token", "eos_token_id", spec.suffix,
                  eos_tokens.empty() ? -1 : eos_tokens[0], metadata);
}

}  // namespace moiety::format
