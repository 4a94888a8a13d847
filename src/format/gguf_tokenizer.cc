#include "format/gguf_tokenizer.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/text_index.h"
#include "format/gguf_pre_tokenizers.h"
#include "format/sentencepiece_steps.h"

namespace moiety::format {
namespace {

using spec::TokenizerSpec;
using spec::TokenType;

std::string key(const char* name) { return std::string("tokenizer.ggml.") + name; }

const GgufPreTokenizer& read_pre_tokenizer(const GgufMetadata& metadata) {
  const std::string name = metadata.has(key("pre")) ? metadata.text(key("pre")) : "default";
  const GgufPreTokenizer* pre = find_gguf_pre_tokenizer(name);
  require(pre != nullptr, "{}: tokenizer.ggml.pre \"{}\" is not supported", metadata.where, name);
  return *pre;
}

void read_tokens(const GgufMetadata& metadata, TokenizerSpec& spec) {
  spec.tokens = metadata.texts(key("tokens"));
  require(spec.tokens.size() <= spec::kMostTokens, "{}: {} tokens; at most {} are allowed",
          metadata.where, spec.tokens.size(), spec::kMostTokens);
  if (!metadata.has(key("token_type"))) return;
  const std::vector<int64_t>& types = metadata.integers(key("token_type"));
  require(types.size() == spec.tokens.size(), "{}: {} token types for {} tokens", metadata.where,
          types.size(), spec.tokens.size());
  for (size_t id = 0; id < types.size(); ++id) {
    // What has no type, or one that nobody knows, is an ordinary token.
    const bool known = types[id] >= 1 && types[id] <= 6;
    const TokenType type = known ? static_cast<TokenType>(types[id]) : TokenType::Normal;
    if (type == TokenType::Unused) spec.tokens[id].clear();
    spec.types.push_back(type);
    const bool special = type == TokenType::Control || type == TokenType::Unknown;
    if ((!special && type != TokenType::UserDefined) || spec.tokens[id].empty()) continue;
    spec.added.push_back({.id = static_cast<int32_t>(id),
                          .content = spec.tokens[id],
                          .special = special});
  }
}

TextIndex ids_of(const TokenizerSpec& spec) {
  TextIndex ids(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id].empty()) ids.insert(spec.tokens[id], static_cast<int32_t>(id));
  }
  return ids;
}

// "a b"; the space between can't be the first character.
TokenizerSpec::Merge read_merge(const std::string& text, const TextIndex& ids, const std::string& where) {
  const size_t space = text.find(' ', 1);
  require(space != text.npos, "{}: merge \"{}\" must be two tokens with a space between", where,
          text.substr(0, 60));
  const std::string left = text.substr(0, space), right = text.substr(space + 1);
  const auto id_of = [&](const std::string& token) {
    const int32_t* id = ids.find(token);
    require(id != nullptr, "{}: merge \"{}\" needs token \"{}\", which is not in the vocabulary",
            where, text, token);
    return *id;
  };
  return {id_of(left), id_of(right), id_of(left + right)};
}

void read_surroundings(const GgufMetadata& metadata, bool bos_by_default, bool eos_by_default,
                       TokenizerSpec& spec) {
  const auto read = [&](const char* flag, const char* id, bool by_default,
                        std::vector<int32_t>& out) {
    const bool said = metadata.has(key(flag));
    if (!(said ? metadata.boolean(key(flag)) : by_default)) return;
    if (!said && !metadata.has(key(id))) return;
    const int64_t token = metadata.integer(key(id));
    require(token >= 0 && token < static_cast<int64_t>(spec.tokens.size()),
            "{}: tokenizer.ggml.{} is {}, but there are {} tokens", metadata.where, id, token,
            spec.tokens.size());
    out = {static_cast<int32_t>(token)};
  };
  read("add_bos_token", "bos_token_id", bos_by_default, spec.prefix);
  read("add_eos_token", "eos_token_id", eos_by_default, spec.suffix);
}

void read_byte_level(const GgufMetadata& metadata, TokenizerSpec& spec) {
  const GgufPreTokenizer& pre = read_pre_tokenizer(metadata);
  spec.pre_tokenizers = pre.steps;
  spec.normalizers = pre.normalizers;
  spec.ignore_merges = pre.ignore_merges;
  read_tokens(metadata, spec);
  spec.types.clear();  // they are all in `added`

  const TextIndex ids = ids_of(spec);
  for (const std::string& merge : metadata.texts(key("merges")))
    spec.merges.push_back(read_merge(merge, ids, metadata.where));
  read_surroundings(metadata, pre.add_bos, false, spec);
}

bool flag(const GgufMetadata& metadata, const char* name, bool otherwise) {
  return metadata.has(key(name)) ? metadata.boolean(key(name)) : otherwise;
}

// "llama" is sentencepiece's BPE, "t5" its Unigram.
void read_sentencepiece_kind(const GgufMetadata& metadata, bool is_unigram, TokenizerSpec& spec) {
  read_tokens(metadata, spec);
  spec.scores = metadata.numbers(key("scores"));
  if (spec.types.empty()) spec.types.assign(spec.tokens.size(), TokenType::Normal);
  spec.model = is_unigram ? TokenizerSpec::Model::Unigram : TokenizerSpec::Model::BytePairs;
  spec.merges_by_score = !is_unigram;
  spec.fuse_unknown = true;
  spec.byte_fallback = std::any_of(spec.types.begin(), spec.types.end(), [](TokenType type) {
    return type == TokenType::Byte;
  });

  const auto unknown = std::find(spec.types.begin(), spec.types.end(), TokenType::Unknown);
  if (metadata.has(key("unknown_token_id"))) {
    const int64_t id = metadata.integer(key("unknown_token_id"));
    require(id >= 0 && id < static_cast<int64_t>(spec.tokens.size()),
            "{}: tokenizer.ggml.unknown_token_id is {}, but there are {} tokens", metadata.where, id,
            spec.tokens.size());
    spec.unknown = static_cast<int32_t>(id);
  } else if (unknown != spec.types.end()) {
    spec.unknown = static_cast<int32_t>(unknown - spec.types.begin());
  }
  if (spec.unknown >= 0 && spec.tokens[spec.unknown].empty()) spec.unknown = -1;

  SentencepieceSteps steps{.add_dummy_prefix = flag(metadata, "add_space_prefix", true),
                           .remove_extra_whitespaces =
                               is_unigram && flag(metadata, "remove_extra_whitespaces", true)};
  if (metadata.has(key("precompiled_charsmap"))) {
    for (const int64_t byte : metadata.integers(key("precompiled_charsmap")))
      steps.charsmap += static_cast<char>(byte);
  }
  set_sentencepiece_steps(steps, spec);
  read_surroundings(metadata, !is_unigram, is_unigram, spec);
}

}  // namespace

TokenizerSpec read_gguf_tokenizer(const GgufMetadata& metadata) {
  const std::string& model = metadata.text(key("model"));
  TokenizerSpec spec;
  if (model == "gpt2") {
    read_byte_level(metadata, spec);
  } else {
    require(model == "llama" || model == "t5",
            "{}: tokenizer.ggml.model \"{}\" is not supported; \"gpt2\" (byte-level BPE), \"llama\" "
            "(sentencepiece's BPE) and \"t5\" (its Unigram) are",
            metadata.where, model);
    read_sentencepiece_kind(metadata, model == "t5", spec);
  }
  check(spec, metadata.where);
  return spec;
}

}  // namespace moiety::format
