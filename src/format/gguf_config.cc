#include "format/gguf_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "format/elements.h"

namespace moiety::format {
namespace {

using spec::ModelSpec;
using spec::Role;
using spec::Weight;

// Ours, in files of models whose yarn doesn't truncate: llama.cpp always does.
constexpr const char* kYarnTruncate = "rope.scaling.yarn_truncate";

const Family& family_of(const GgufMetadata& m) {
  const std::string& architecture = m.text("general.architecture");
  const std::string experts = architecture + ".expert_count", scores = architecture + ".expert_gating_func";
  const Family* found = family_of_gguf(architecture, m.has(experts) && m.integer(experts) > 0,
                                       m.has(scores) && m.integer(scores) == 2);
  if (found != nullptr) return *found;
  std::set<std::string> known;
  for (const Family& family : families()) {
    if (family.gguf.architecture != nullptr) known.insert(family.gguf.architecture);
  }
  fail(ErrorKind::Input, "{}: architecture \"{}\" is not one that moiety reads ({})", m.where, architecture,
       fmt::join(known, ", "));
}

// llama.cpp's numbers for the type most tensors have (general.file_type).
int64_t file_type(spec::ElementType type) {
  using Type = spec::ElementType;
  constexpr std::pair<Type, int64_t> kNumbers[] = {
      {Type::F16, 1},  {Type::BF16, 32}, {Type::Q8_0, 7},  {Type::Q4_0, 2},  {Type::Q4_1, 3},   {Type::Q5_0, 8},
      {Type::Q5_1, 9}, {Type::Q4_K, 15}, {Type::Q5_K, 17}, {Type::Q6_K, 18}, {Type::MXFP4, 38},
      {Type::Q2_K, 10}, {Type::Q3_K, 12}, {Type::IQ4_NL, 25}, {Type::IQ4_XS, 30},
  };
  for (const auto& [known, number] : kNumbers) {
    if (known == type) return number;
  }
  return 0;
}

using Tensors = std::unordered_map<std::string_view, const TensorView*>;

void read_rope_scaling(const GgufMetadata& m, const std::string& prefix, const Tensors& tensors, spec::RopeSpec& rope) {
  spec::RopeScaling& s = rope.scaling;
  const auto number = [&](const char* key, float otherwise) {
    return m.has(prefix + key) ? static_cast<float>(m.number(prefix + key)) : otherwise;
  };
  const std::string key = prefix + "rope.scaling.type", type = m.has(key) ? m.text(key) : "none";
  const auto factors = tensors.find(kRopeFactors);
  if (factors != tensors.end()) {
    require(type == "none", "{}: both {} and rope.scaling.type {}", m.where, kRopeFactors, type);
    s.kind = spec::RopeScalingKind::Factors;
    s.short_factors = s.long_factors = to_floats(*factors->second);
    s.original_positions = static_cast<int>(std::clamp<int64_t>(m.integer(prefix + "context_length"), 1, INT32_MAX));
    return;
  }
  if (type == "none") return;
  s.factor = number("rope.scaling.factor", 1);
  const std::string original = prefix + "rope.scaling.original_context_length";
  if (m.has(original)) {
    require(m.integer(original) >= 0 && m.integer(original) <= INT32_MAX, "{}: metadata {} is {}, out of range", m.where,
            original, m.integer(original));
    s.original_positions = static_cast<int>(m.integer(original));
  }
  if (type == "linear") {
    s.kind = spec::RopeScalingKind::Linear;
  } else if (type == "yarn") {
    s.kind = spec::RopeScalingKind::Yarn;
    s.beta_fast = number("rope.scaling.yarn_beta_fast", 32);
    s.beta_slow = number("rope.scaling.yarn_beta_slow", 1);
    s.truncate = !m.has(prefix + kYarnTruncate) || m.boolean(prefix + kYarnTruncate);
    s.amplitude = s.long_amplitude = spec::yarn_amplitude(s.factor) * number("rope.scaling.attn_factor", 1);
  } else {
    fail(ErrorKind::Input, "{}: rope.scaling.type \"{}\" is not supported, expected none, linear or yarn", m.where, type);
  }
}

void add_rope_scaling(const spec::RopeScaling& s, const std::string& prefix, GgufMetadata& m) {
  if (s.kind != spec::RopeScalingKind::Linear && s.kind != spec::RopeScalingKind::Yarn) return;
  const bool yarn = s.kind == spec::RopeScalingKind::Yarn;
  m.set(prefix + "rope.scaling.type", std::string(yarn ? "yarn" : "linear"));
  m.set(prefix + "rope.scaling.factor", double{s.factor});
  if (!yarn) return;
  m.set(prefix + "rope.scaling.original_context_length", int64_t{s.original_positions});
  m.set(prefix + "rope.scaling.yarn_beta_fast", double{s.beta_fast});
  m.set(prefix + "rope.scaling.yarn_beta_slow", double{s.beta_slow});
  if (!s.truncate) m.set(prefix + kYarnTruncate, false);
}

}  // namespace

ModelSpec read_gguf_config(const GgufFile& file) {
  const GgufMetadata& m = file.metadata();
  const Family& family = family_of(m);
  const std::string prefix = std::string(family.gguf.architecture) + ".";
  const auto size = [&](const std::string& key, int64_t low = 1) {
    const int64_t value = m.integer(prefix + key);
    require(value >= low && value <= INT32_MAX, "{}: metadata {}{} is {}, out of range", m.where, prefix, key, value);
    return static_cast<int>(value);
  };
  Tensors tensors;
  tensors.reserve(file.tensors().size());
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
  if (m.has(prefix + "rope.freq_base")) s.attention.rope.theta = static_cast<float>(m.number(prefix + "rope.freq_base"));
  s.attention.rope.pairs = family.gguf.rope_pairs;
  if (m.has(prefix + "attention.sliding_window")) s.attention.sliding_window = size("attention.sliding_window", 0);
  if (m.has(prefix + "rope.dimension_count")) s.attention.rope.dim = size("rope.dimension_count");
  read_rope_scaling(m, prefix, tensors, s.attention.rope);
  s.moe.router.num_experts = m.has(prefix + "expert_count") ? size("expert_count", 0) : 0;
  if (s.moe.router.num_experts > 0) s.moe.router.experts_per_token = size("expert_used_count");
  if (m.has(prefix + "feed_forward_length")) s.dense_hidden = size("feed_forward_length", 0);
  if (m.has("tokenizer.ggml.bos_token_id")) s.bos_token = static_cast<int>(m.integer("tokenizer.ggml.bos_token_id"));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (m.has(key)) s.eos_tokens.push_back(static_cast<int>(m.integer(key)));
  }

  // What only the tensors tell
  const auto find = [&](const Weight& weight) -> const TensorView* {
    for (const WeightName* row : family.gguf.names.rows(weight.role)) {
      const auto it = tensors.find(name_of(*row, weight));
      if (it != tensors.end()) return it->second;
    }
    return nullptr;
  };
  const TensorView* embedding = find({Role::Embedding});
  require(embedding != nullptr && embedding->shape.size() == 2, "{}: tensor token_embd.weight is missing or no matrix",
          m.where);
  const int64_t vocabulary = embedding->shape[0];
  require(vocabulary <= INT32_MAX, "{}: a vocabulary of {}", m.where, vocabulary);
  s.vocab_size = static_cast<int>(vocabulary);
  s.tied_embeddings = find({Role::Head}) == nullptr;
  for (int layer = 0; layer < s.num_layers; ++layer) {
    s.feed_forward.push_back(find({Role::Router, layer}) != nullptr ? spec::FeedForward::Moe : spec::FeedForward::Dense);
  }
  s.attention.qkv_bias = find({Role::QueryBias, 0}) != nullptr;
  s.attention.output_bias = find({Role::AttentionOutputBias, 0}) != nullptr;

  family.gguf.read(m, prefix, s);
  // GLM-4.5 comes with and without
  if (s.attention.qk_norm != spec::QkNorm::None && find({Role::QueryNorm, 0}) == nullptr) {
    s.attention.qk_norm = spec::QkNorm::None;
  }
  if (s.attention.rope.dim == s.attention.head_dim) s.attention.rope.dim = 0;
  spec::check(s, m.where);
  return s;
}

void add_gguf_config(const ModelSpec& s, const Family& family, spec::ElementType type, const std::string& name,
                     GgufMetadata& m) {
  const std::string prefix = std::string(family.gguf.architecture) + ".";
  const auto set = [&](const char* key, int64_t value) { m.set(prefix + key, value); };
  m.set("general.architecture", std::string(family.gguf.architecture));
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
  m.set(prefix + "rope.freq_base", double{s.attention.rope.theta});
  set("rope.dimension_count", s.attention.rope_dim());
  add_rope_scaling(s.attention.rope.scaling, prefix, m);
  set("vocab_size", s.vocab_size);
  if (s.moe_layers() > 0) {
    set("expert_count", s.moe.router.num_experts);
    set("expert_used_count", s.moe.router.experts_per_token);
  }
  family.gguf.write(s, prefix, m);
}

}  // namespace moiety::format
