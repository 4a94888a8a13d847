#include "format/gguf_config.h"

#include <map>

namespace moiety::format {
namespace {

using spec::ModelSpec;
using spec::Role;

const Family& family_of(const GgufMetadata& m) {
  const std::string& architecture = m.text("general.architecture");
  std::string known;
  for (const Family& family : families()) {
    if (architecture == family.gguf_architecture) return family;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family.gguf_architecture);
  }
  fail(ErrorKind::Input, "{}: architecture \"{}\" is not one that moiety reads ({})", m.where, architecture, known);
}

// llama.cpp's numbers for the type most tensors have (general.file_type).
int64_t file_type(spec::ElementType type) {
  using Type = spec::ElementType;
  constexpr std::pair<Type, int64_t> kNumbers[] = {
      {Type::F16, 1},  {Type::BF16, 32}, {Type::Q8_0, 7},  {Type::Q4_0, 2},  {Type::Q4_1, 3},   {Type::Q5_0, 8},
      {Type::Q5_1, 9}, {Type::Q4_K, 15}, {Type::Q5_K, 17}, {Type::Q6_K, 18}, {Type::MXFP4, 38},
  };
  for (const auto& [known, number] : kNumbers) {
    if (known == type) return number;
  }
  return 0;
}

}  // namespace

ModelSpec read_gguf_config(const GgufFile& file) {
  const GgufMetadata& m = file.metadata();
  const Family& family = family_of(m);
  const std::string prefix = std::string(family.gguf_architecture) + ".";
  const auto size = [&](const std::string& key, int64_t low = 1) {
    const int64_t value = m.integer(prefix + key);
    require(value >= low && value <= INT32_MAX, "{}: metadata {}{} is {}, out of range", m.where, prefix, key, value);
    return static_cast<int>(value);
  };
  std::map<std::string, const TensorView*> tensors;
  for (const TensorView& tensor : file.tensors()) tensors[tensor.name] = &tensor;

  ModelSpec s{.family = family.name};
  s.num_layers = size("block_count");
  require(s.num_layers <= 4096, "{}: {} layers", m.where, s.num_layers);
  s.width = size("embedding_length");
  s.max_positions = size("context_length");
  s.norm_eps = static_cast<float>(m.number(prefix + "attention.layer_norm_rms_epsilon"));
  s.attention.num_heads = size("attention.head_count");
  s.attention.num_kv_heads = m.has(prefix + "attention.head_count_kv") ? size("attention.head_count_kv")
                                                                       : s.attention.num_heads;
  s.attention.head_dim = m.has(prefix + "attention.key_length") ? size("attention.key_length")
                                                                : s.width / s.attention.num_heads;
  if (m.has(prefix + "rope.freq_base")) s.attention.rope_theta = static_cast<float>(m.number(prefix + "rope.freq_base"));
  s.attention.rope_pairs = family.gguf_rope_pairs;
  if (m.has(prefix + "attention.sliding_window")) s.attention.sliding_window = size("attention.sliding_window", 0);
  require(!m.has(prefix + "rope.dimension_count") || size("rope.dimension_count") == s.attention.head_dim,
          "{}: rotating only part of a head is not supported", m.where);
  require(!m.has(prefix + "rope.scaling.type") || m.text(prefix + "rope.scaling.type") == "none",
          "{}: rope scaling is not supported", m.where);
  s.moe.router.num_experts = m.has(prefix + "expert_count") ? size("expert_count", 0) : 0;
  require(s.moe.router.num_experts > 0, "{}: a model without experts; moiety reads mixture-of-experts models", m.where);
  s.moe.router.experts_per_token = size("expert_used_count");
  if (m.has(prefix + "feed_forward_length")) s.dense_hidden = size("feed_forward_length", 0);
  if (m.has("tokenizer.ggml.bos_token_id")) s.bos_token = static_cast<int>(m.integer("tokenizer.ggml.bos_token_id"));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (m.has(key)) s.eos_tokens.push_back(static_cast<int>(m.integer(key)));
  }

  // What only the tensors tell
  const WeightNames& names = family.gguf_names;
  const auto embedding = tensors.find(names.name({Role::Embedding}));
  require(embedding != tensors.end() && embedding->second->shape.size() == 2, "{}: tensor {} is missing or no matrix",
          m.where, names.name({Role::Embedding}));
  const int64_t vocabulary = embedding->second->shape[0];
  require(vocabulary <= INT32_MAX, "{}: a vocabulary of {}", m.where, vocabulary);
  s.vocab_size = static_cast<int>(vocabulary);
  s.tied_embeddings = !tensors.contains(names.name({Role::Head}));
  for (int layer = 0; layer < s.num_layers; ++layer) {
    const bool sparse = tensors.contains(names.name({Role::Router, layer}));
    s.feed_forward.push_back(sparse ? spec::FeedForward::Moe : spec::FeedForward::Dense);
  }

  family.read_gguf(m, prefix, s);
  // GLM-4.5 comes with and without
  if (s.attention.qk_norm != spec::QkNorm::None && !tensors.contains(names.name({Role::QueryNorm, 0}))) {
    s.attention.qk_norm = spec::QkNorm::None;
  }
  s.attention.qkv_bias = tensors.contains(names.name({Role::QueryBias, 0}));
  spec::check(s, m.where);
  return s;
}

void add_gguf_config(const ModelSpec& s, const Family& family, spec::ElementType type, const std::string& name,
                     GgufMetadata& m) {
  const std::string prefix = std::string(family.gguf_architecture) + ".";
  const auto set = [&](const char* key, int64_t value) { m.set(prefix + key, value); };
  m.set("general.architecture", std::string(family.gguf_architecture));
  m.set("general.type", std::string("model"));
  m.set("general.name", name);
  m.set("general.file_type", file_type(type));
  m.set("general.quantization_version", int64_t{2});
  set("block_count", s.num_layers);
  set("context_length", s.max_positions);
  set("embedding_length", s.width);
  set("attention.head_count", s.attention.num_heads);
  set("attention.head_count_kv", s.attention.num_kv_heads);
  set("attention.key_length", s.attention.head_dim);
  set("attention.value_length", s.attention.head_dim);
  if (s.attention.sliding_window > 0) set("attention.sliding_window", s.attention.sliding_window);
  m.set(prefix + "attention.layer_norm_rms_epsilon", double{s.norm_eps});
  m.set(prefix + "rope.freq_base", double{s.attention.rope_theta});
  set("rope.dimension_count", s.attention.head_dim);
  set("vocab_size", s.vocab_size);
  set("expert_count", s.moe.router.num_experts);
  set("expert_used_count", s.moe.router.experts_per_token);
  family.write_gguf(s, prefix, m);
}

}  // namespace moiety::format
