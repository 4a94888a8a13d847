#include "format/families.h"

namespace moiety::format {
namespace {

using spec::FeedForward;
using spec::ModelSpec;
using spec::QkNorm;
using spec::RopePairs;
using spec::Score;

constexpr int64_t kMany = 1 << 24;  // more than any size; check(spec) has the real bounds

int size(const JsonObject& config, const char* key) { return static_cast<int>(config.integer(key, 0, kMany)); }

// What a family must have alike in every spec that it expresses.
struct Traits {
  Score score;
  bool renormalise;
  QkNorm qk_norm;
  bool qkv_bias;
};

std::string misses(const ModelSpec& s, const Traits& t) {
  if (s.moe.router.score != t.score) return t.score == Score::Softmax ? "sigmoid scores" : "softmax scores";
  if (s.moe.router.renormalise != t.renormalise) {
    return t.renormalise ? "weights that are not renormalised" : "renormalised weights";
  }
  if (s.attention.qk_norm != t.qk_norm) {
    return s.attention.qk_norm == QkNorm::None      ? "queries without a norm"
           : s.attention.qk_norm == QkNorm::PerHead ? "a query norm per head"
                                                    : "a query norm over all heads";
  }
  if (s.attention.qkv_bias && !t.qkv_bias) return "query, key and value biases";
  return {};
}

std::string misses_router_extras(const ModelSpec& s) {
  if (s.moe.router.has_selection_bias) return "a selection bias";
  if (s.moe.router.scale != 1) return "scaled weights";
  return {};
}
std::string misses_shared(const ModelSpec& s) { return s.moe.shared_hidden > 0 ? "shared experts" : ""; }
std::string misses_dense(const ModelSpec& s) { return s.moe_layers() < s.num_layers ? "dense layers" : ""; }
std::string misses_clip(const ModelSpec& s) { return s.attention.clip_qkv != 0 ? "clipped queries" : ""; }
std::string misses_window(const ModelSpec& s) { return s.attention.sliding_window != 0 ? "a sliding window" : ""; }
// Implementations derive it: width / heads.
std::string misses_head_dim(const ModelSpec& s) {
  return s.attention.head_dim * s.attention.num_heads != s.width ? "a head dimension other than width / heads" : "";
}

std::string first_of(std::initializer_list<std::string> reasons) {
  for (const std::string& reason : reasons) {
    if (!reason.empty()) return reason;
  }
  return {};
}

int leading_dense_layers(const ModelSpec& s) {
  int count = 0;
  while (count < s.num_layers && s.feed_forward[count] == FeedForward::Dense) ++count;
  return count;
}

// --- Mixtral: softmax, renormalised, nothing else ---

void read_hf_mixtral(const JsonObject& c, ModelSpec& s) {
  s.moe.router.num_experts = size(c, "num_local_experts");
  s.moe.router.experts_per_token = size(c, "num_experts_per_tok");
  s.moe.expert_hidden = size(c, "intermediate_size");
  s.attention.sliding_window = static_cast<int>(c.integer("sliding_window", 0, INT32_MAX, 0));
}
void write_hf_mixtral(const ModelSpec& s, Json& c) {
  c["num_local_experts"] = s.moe.router.num_experts;
  c["num_experts_per_tok"] = s.moe.router.experts_per_token;
  c["intermediate_size"] = s.moe.expert_hidden;
  c["sliding_window"] = s.attention.sliding_window > 0 ? Json(s.attention.sliding_window) : Json();
}
void read_gguf_mixtral(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  s.moe.expert_hidden = static_cast<int>(m.integer(prefix + "feed_forward_length"));
}
void write_gguf_mixtral(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  m.set(prefix + "feed_forward_length", int64_t{s.moe.expert_hidden});
}
std::string mixtral_cannot(const ModelSpec& s) {
  return first_of({misses(s, {Score::Softmax, true, QkNorm::None, false}), misses_router_extras(s), misses_shared(s),
                   misses_dense(s), misses_clip(s), misses_head_dim(s)});
}

// --- OLMoE: softmax, not renormalised, norm over all heads ---

void read_hf_olmoe(const JsonObject& c, ModelSpec& s) {
  s.moe.router.num_experts = size(c, "num_experts");
  s.moe.router.experts_per_token = size(c, "num_experts_per_tok");
  s.moe.router.renormalise = c.boolean("norm_topk_prob", false);
  s.moe.expert_hidden = size(c, "intermediate_size");
  s.attention.qk_norm = QkNorm::Whole;
  s.attention.clip_qkv = static_cast<float>(c.number("clip_qkv", 0));
}
void write_hf_olmoe(const ModelSpec& s, Json& c) {
  c["num_experts"] = s.moe.router.num_experts;
  c["num_experts_per_tok"] = s.moe.router.experts_per_token;
  c["norm_topk_prob"] = s.moe.router.renormalise;
  c["intermediate_size"] = s.moe.expert_hidden;
  c["clip_qkv"] = s.attention.clip_qkv > 0 ? Json(s.attention.clip_qkv) : Json();
}
void read_gguf_olmoe(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_gguf_mixtral(m, prefix, s);
  s.attention.qk_norm = QkNorm::Whole;
  s.moe.router.renormalise = false;
}
void write_gguf_olmoe(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  require(s.attention.num_kv_heads == s.attention.num_heads,
          "{}: llama.cpp's olmoe has as many key-value heads as heads, this model has {} of {}", m.where,
          s.attention.num_kv_heads, s.attention.num_heads);
  write_gguf_mixtral(s, prefix, m);
}
std::string olmoe_cannot(const ModelSpec& s) {
  return first_of({misses(s, {Score::Softmax, false, QkNorm::Whole, false}), misses_router_extras(s), misses_shared(s),
                   misses_dense(s), misses_window(s), misses_head_dim(s)});
}

// --- Qwen: experts among dense layers by step ---

// Sparse are the layers whose number + 1 is a multiple of decoder_sparse_step and that mlp_only_layers leaves out.
void read_hf_qwen(const JsonObject& c, ModelSpec& s) {
  s.moe.router.num_experts = size(c, "num_experts");
  s.moe.router.experts_per_token = size(c, "num_experts_per_tok");
  s.moe.router.renormalise = c.boolean("norm_topk_prob", false);
  s.moe.expert_hidden = size(c, "moe_intermediate_size");
  s.dense_hidden = size(c, "intermediate_size");
  const int64_t step = c.integer("decoder_sparse_step", 1, kMany, 1);
  for (int layer = 0; layer < s.num_layers; ++layer) {
    s.feed_forward[layer] = (layer + 1) % step == 0 ? FeedForward::Moe : FeedForward::Dense;
  }
  if (c.has("mlp_only_layers")) {
    for (const Json& layer : c.array("mlp_only_layers")) {
      require(layer.is_number_unsigned() && layer.get<uint64_t>() < s.feed_forward.size(),
              "{}: mlp_only_layers names a layer that the model does not have", c.where());
      s.feed_forward[layer.get<size_t>()] = FeedForward::Dense;
    }
  }
  require(!c.boolean("use_sliding_window", false), "{}: use_sliding_window is not supported for this family", c.where());
}
void write_hf_qwen(const ModelSpec& s, Json& c) {
  c["num_experts"] = s.moe.router.num_experts;
  c["num_experts_per_tok"] = s.moe.router.experts_per_token;
  c["norm_topk_prob"] = s.moe.router.renormalise;
  c["moe_intermediate_size"] = s.moe.expert_hidden;
  c["intermediate_size"] = s.dense_hidden > 0 ? s.dense_hidden : s.moe.expert_hidden;
  c["decoder_sparse_step"] = 1;
  Json dense = Json::array();
  for (int layer = 0; layer < s.num_layers; ++layer) {
    if (s.feed_forward[layer] == FeedForward::Dense) dense.push_back(layer);
  }
  c["mlp_only_layers"] = dense;
  c["use_sliding_window"] = false;
}
void read_gguf_qwen(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  s.moe.expert_hidden = static_cast<int>(m.integer(prefix + "expert_feed_forward_length"));
}
void write_gguf_qwen(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  m.set(prefix + "feed_forward_length", int64_t{s.dense_hidden > 0 ? s.dense_hidden : s.moe.expert_hidden});
  m.set(prefix + "expert_feed_forward_length", int64_t{s.moe.expert_hidden});
}

// Qwen3-MoE: a norm per head, mostly renormalised

void read_hf_qwen3(const JsonObject& c, ModelSpec& s) {
  read_hf_qwen(c, s);
  s.attention.qk_norm = QkNorm::PerHead;
}
void read_gguf_qwen3(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_gguf_qwen(m, prefix, s);
  s.attention.qk_norm = QkNorm::PerHead;
}
std::string qwen3_cannot(const ModelSpec& s) {
  return first_of({misses(s, {Score::Softmax, true, QkNorm::PerHead, false}), misses_router_extras(s), misses_shared(s),
                   misses_clip(s), misses_window(s)});
}

// Qwen2-MoE: biases, a gated shared expert

void read_hf_qwen2(const JsonObject& c, ModelSpec& s) {
  read_hf_qwen(c, s);
  s.moe.shared_hidden = size(c, "shared_expert_intermediate_size");
  s.moe.shared_gate = true;
  s.attention.qkv_bias = c.boolean("qkv_bias", true);
}
void write_hf_qwen2(const ModelSpec& s, Json& c) {
  write_hf_qwen(s, c);
  c["shared_expert_intermediate_size"] = s.moe.shared_hidden;
  c["qkv_bias"] = true;
}
void read_gguf_qwen2(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_gguf_qwen(m, prefix, s);
  s.moe.shared_hidden = static_cast<int>(m.integer(prefix + "expert_shared_feed_forward_length"));
  s.moe.shared_gate = true;
  s.moe.router.renormalise = false;
  s.attention.qkv_bias = true;
}
void write_gguf_qwen2(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  write_gguf_qwen(s, prefix, m);
  m.set(prefix + "expert_shared_feed_forward_length", int64_t{s.moe.shared_hidden});
}
std::string qwen2_cannot(const ModelSpec& s) {
  if (s.moe.shared_hidden == 0 || !s.moe.shared_gate) return "layers without a gated shared expert";
  return first_of({misses(s, {Score::Softmax, s.moe.router.renormalise, QkNorm::None, true}), misses_router_extras(s),
                   misses_clip(s), misses_window(s), misses_head_dim(s)});
}

// --- GLM-4.5: sigmoid scores, selection bias, shared experts, dense layers first ---

void read_hf_glm4(const JsonObject& c, ModelSpec& s) {
  require(c.number("partial_rotary_factor", 0.5) == 1.0, "{}: a partial_rotary_factor other than 1 is not supported",
          c.where());
  require(c.integer("n_group", 1, kMany, 1) == 1, "{}: groups of experts (n_group) are not supported", c.where());
  s.moe.router = {.num_experts = size(c, "n_routed_experts"),
                  .experts_per_token = size(c, "num_experts_per_tok"),
                  .score = Score::Sigmoid,
                  .has_selection_bias = true,
                  .renormalise = c.boolean("norm_topk_prob", true),
                  .scale = static_cast<float>(c.number("routed_scaling_factor", 1))};
  s.moe.expert_hidden = size(c, "moe_intermediate_size");
  s.moe.shared_hidden = static_cast<int>(c.integer("n_shared_experts", 0, 4096, 1)) * s.moe.expert_hidden;
  s.dense_hidden = size(c, "intermediate_size");
  s.attention.qk_norm = c.boolean("use_qk_norm", false) ? QkNorm::PerHead : QkNorm::None;
  const int64_t dense = c.integer("first_k_dense_replace", 0, s.num_layers, 1);
  for (int layer = 0; layer < dense; ++layer) s.feed_forward[layer] = FeedForward::Dense;
}
void write_hf_glm4(const ModelSpec& s, Json& c) {
  const spec::RouterRule& r = s.moe.router;
  c["partial_rotary_factor"] = 1.0;
  c["n_group"] = 1;
  c["topk_group"] = 1;
  c["n_routed_experts"] = r.num_experts;
  c["num_experts_per_tok"] = r.experts_per_token;
  c["norm_topk_prob"] = r.renormalise;
  c["routed_scaling_factor"] = r.scale;
  c["moe_intermediate_size"] = s.moe.expert_hidden;
  c["n_shared_experts"] = s.moe.shared_hidden / s.moe.expert_hidden;
  c["intermediate_size"] = s.dense_hidden > 0 ? s.dense_hidden : s.moe.expert_hidden;
  c["first_k_dense_replace"] = leading_dense_layers(s);
  c["use_qk_norm"] = s.attention.qk_norm == QkNorm::PerHead;
}
void read_gguf_glm4(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_gguf_qwen3(m, prefix, s);
  require(!m.has(prefix + "expert_gating_func") || m.integer(prefix + "expert_gating_func") == 2,
          "{}: expert_gating_func must be 2 (sigmoid) for this family", m.where);
  s.moe.router.score = Score::Sigmoid;
  s.moe.router.has_selection_bias = true;
  s.moe.router.renormalise = !m.has(prefix + "expert_weights_norm") || m.boolean(prefix + "expert_weights_norm");
  if (m.has(prefix + "expert_weights_scale")) {
    s.moe.router.scale = static_cast<float>(m.number(prefix + "expert_weights_scale"));
  }
  const int64_t shared = m.has(prefix + "expert_shared_count") ? m.integer(prefix + "expert_shared_count") : 0;
  require(shared >= 0 && shared <= 4096, "{}: {} shared experts", m.where, shared);
  s.moe.shared_hidden = static_cast<int>(shared) * s.moe.expert_hidden;
}
void write_gguf_glm4(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  write_gguf_qwen(s, prefix, m);
  m.set(prefix + "expert_gating_func", int64_t{2});
  m.set(prefix + "expert_weights_norm", s.moe.router.renormalise);
  m.set(prefix + "expert_weights_scale", double{s.moe.router.scale});
  m.set(prefix + "expert_shared_count", int64_t{s.moe.shared_hidden / s.moe.expert_hidden});
  m.set(prefix + "leading_dense_block_count", int64_t{leading_dense_layers(s)});
}
std::string glm4_cannot(const ModelSpec& s) {
  const int dense = leading_dense_layers(s);
  if (s.moe.shared_gate) return "a gated shared expert";
  if (s.moe.shared_hidden == 0) return "layers without a shared expert";
  if (s.moe.shared_hidden % s.moe.expert_hidden != 0) return "a shared width that is no multiple of the experts'";
  if (s.num_layers - s.moe_layers() != dense) return "dense layers after sparse ones";
  const QkNorm qk_norm = s.attention.qk_norm == QkNorm::PerHead ? QkNorm::PerHead : QkNorm::None;
  return first_of({misses(s, {Score::Sigmoid, s.moe.router.renormalise, qk_norm, true}), misses_clip(s),
                   misses_window(s)});
}

constexpr spec::Role kQkvBiases[] = {spec::Role::QueryBias, spec::Role::KeyBias, spec::Role::ValueBias};
constexpr spec::Role kSelectionBias[] = {spec::Role::SelectionBias};
constexpr RopePairs kHalves = RopePairs::Halves, kNeighbours = RopePairs::Neighbours;

const Family kFamilies[] = {
    {"mixtral", "mixtral", "MixtralForCausalLM", kMixtralNames, read_hf_mixtral, write_hf_mixtral,  //
     "llama", kGgufNames, kNeighbours, read_gguf_mixtral, write_gguf_mixtral, {}, mixtral_cannot},
    {"olmoe", "olmoe", "OlmoeForCausalLM", kMlpExpertsNames, read_hf_olmoe, write_hf_olmoe,  //
     "olmoe", kGgufNames, kHalves, read_gguf_olmoe, write_gguf_olmoe, {}, olmoe_cannot},
    {"qwen3_moe", "qwen3_moe", "Qwen3MoeForCausalLM", kMlpExpertsNames, read_hf_qwen3, write_hf_qwen,  //
     "qwen3moe", kGgufNames, kHalves, read_gguf_qwen3, write_gguf_qwen, {}, qwen3_cannot},
    {"qwen2_moe", "qwen2_moe", "Qwen2MoeForCausalLM", kMlpExpertsNames, read_hf_qwen2, write_hf_qwen2,  //
     "qwen2moe", kGgufNames, kHalves, read_gguf_qwen2, write_gguf_qwen2, kQkvBiases, qwen2_cannot},
    {"glm4_moe", "glm4_moe", "Glm4MoeForCausalLM", kGlm4Names, read_hf_glm4, write_hf_glm4,  //
     "glm4moe", kGgufGlm4Names, kHalves, read_gguf_glm4, write_gguf_glm4, kSelectionBias, glm4_cannot},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

const Family* family_of_hf(std::string_view model_type) {
  for (const Family& family : kFamilies) {
    if (family.hf_model_type == model_type) return &family;
  }
  return nullptr;
}

const Family* family_named(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

const Family& closest_family(const spec::ModelSpec& spec) {
  const Family* own = family_named(spec.family);
  if (own != nullptr && own->cannot_express(spec).empty()) return *own;
  std::string reasons;
  for (const Family& family : kFamilies) {
    const std::string reason = family.cannot_express(spec);
    if (reason.empty()) return family;
    reasons += fmt::format("; {} cannot express {}", family.name, reason);
  }
  fail(ErrorKind::Input, "no standard architecture computes what this model does{}", reasons);
}

}  // namespace moiety::format
