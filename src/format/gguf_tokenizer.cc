#include "format/gguf_tokenizer.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "format/gguf_pre_tokenizers.h"

namespace moiety::format {
namespace {

using spec::TokenizerSpec;

enum TokenType : int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

using Ids = std::unordered_map<std::string_view, int32_t>;

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
    if (types[id] == kUnused) spec.tokens[id].clear();
    if ((types[id] != kControl && types[id] != kUserDefined) || spec.tokens[id].empty()) continue;
    spec.added.push_back({.id = static_cast<int32_t>(id),
                          .content = spec.tokens[id],
                          .special = types[id] == kControl});
  }
}

Ids ids_of(const TokenizerSpec& spec) {
  Ids ids;
  ids.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id].empty()) ids.emplace(spec.tokens[id], static_cast<int32_t>(id));
  }
  return ids;
}

// "a b"; the space between can't be the first character.
TokenizerSpec::Merge read_merge(const std::string& text, const Ids& ids, const std::string& where) {
  const size_t space = text.find(' ', 1);
  require(space != text.npos, "{}: merge \"{}\" must be two tokens with a space between", where,
          text.substr(0, 60));
  const std::string left = text.substr(0, space), right = text.substr(space + 1);
  const auto id_of = [&](const std::string& token) {
    const auto it = ids.find(token);
    require(it != ids.end(), "{}: merge \"{}\" needs token \"{}\", which is not in the vocabulary",
            where, text, token);
    return it->second;
  };
  return {id_of(left), id_of(right), id_of(left + right)};
}

void read_surroundings(const GgufMetadata& metadata, bool bos_by_default, TokenizerSpec& spec) {
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
  read("add_eos_token", "eos_token_id", false, spec.suffix);
}

const GgufPreTokenizer& pre_tokenizer_for(const TokenizerSpec& spec, const std::string& where) {
  const GgufPreTokenizer* pre = gguf_pre_tokenizer_of(spec);
  require(
      pre != nullptr,
      "{}: no GGUF name (tokenizer.ggml.pre) says how this tokenizer normalises and splits text",
      where);
  return *pre;
}

void add_tokens(const TokenizerSpec& spec, int vocab_size, GgufMetadata& metadata) {
  require(static_cast<size_t>(vocab_size) >= spec.tokens.size(),
          "{}: the tokenizer has {} tokens, but the model only {}", metadata.where,
          spec.tokens.size(), vocab_size);
  std::vector<std::string> tokens = spec.tokens;
  tokens.resize(static_cast<size_t>(vocab_size));
  std::vector<int64_t> types(tokens.size(), kNormal);
  for (const spec::AddedToken& added : spec.added)
    types[added.id] = added.special ? kControl : kUserDefined;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) continue;
    tokens[id] = fmt::format("[PAD{}]", id);
    types[id] = kUnused;
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

}  // namespace

TokenizerSpec read_gguf_tokenizer(const GgufMetadata& metadata) {
  const std::string& model = metadata.text(key("model"));
  require(model == "gpt2",
          "{}: tokenizer.ggml.model \"{}\" is not supported; only \"gpt2\" (byte-level BPE) is",
          metadata.where, model);
  TokenizerSpec spec;
  const GgufPreTokenizer& pre = read_pre_tokenizer(metadata);
  spec.pre_tokenizers = pre.steps;
  spec.normalizers = pre.normalizers;
  spec.ignore_merges = pre.ignore_merges;
  read_tokens(metadata, spec);

  const Ids ids = ids_of(spec);
  for (const std::string& merge : metadata.texts(key("merges")))
    spec.merges.push_back(read_merge(merge, ids, metadata.where));
  read_surroundings(metadata, pre.add_bos, spec);
  check(spec, metadata.where);
  return spec;
}

void add_gguf_tokenizer(const TokenizerSpec& spec, int vocab_size, int bos_token,
                        const std::vector<int>& eos_tokens, GgufMetadata& metadata) {
  metadata.set(key("model"), std::string("gpt2"));
  metadata.set(key("pre"), std::string(pre_tokenizer_for(spec, metadata.where).name));
  add_tokens(spec, vocab_size, metadata);
  add_merges(spec, metadata);
  add_surrounding("add_bos_token", "bos_token_id", spec.prefix, bos_token, metadata);
  add_surrounding("add_eos_token", "eos_token_id", spec.suffix,
                  eos_tokens.empty() ? -1 : eos_tokens[0], metadata);
}

}  // namespace moiety::format
