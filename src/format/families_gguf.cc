#include "format/families_gguf.h"

#include <cmath>

namespace moiety::format {
namespace {

using spec::ModelSpec;
using spec::QkNorm;
using spec::RouterRule;
using spec::Score;

int integer(const GgufMetadata& m, const std::string& key) {
  const int64_t value = m.integer(key);
  require(value >= 0 && value <= 1 << 24, "{}: metadata {} is {}, out of range", m.where, key, value);
  return static_cast<int>(value);
}
int integer(const GgufMetadata& m, const std::string& key, int otherwise) {
  return m.has(key) ? integer(m, key) : otherwise;
}
float number(const GgufMetadata& m, const std::string& key, float otherwise) {
  return m.has(key) ? static_cast<float>(m.number(key)) : otherwise;
}

// What the newer families say of their routers and shared experts.
void read_router(const GgufMetadata& m, const std::string& prefix, Score otherwise, ModelSpec& s) {
  RouterRule& r = s.moe.router;
  const int function = integer(m, prefix + "expert_gating_func", 0);
  require(function <= 2, "{}: metadata {}expert_gating_func is {}, expected 1 (softmax) or 2 (sigmoid)", m.where, prefix,
          function);
  r.score = function == 0 ? otherwise : function == 1 ? Score::Softmax : Score::Sigmoid;
  r.renormalise = m.has(prefix + "expert_weights_norm") && m.boolean(prefix + "expert_weights_norm");
  r.scale = number(m, prefix + "expert_weights_scale", 1);
  r.num_groups = std::max(1, integer(m, prefix + "expert_group_count", 1));
  r.groups_per_token = std::max(1, integer(m, prefix + "expert_group_used_count", 1));
  s.moe.expert_hidden = integer(m, prefix + "expert_feed_forward_length");
  const int shared = integer(m, prefix + "expert_shared_count", 0);
  require(shared <= 4096, "{}: {} shared experts", m.where, shared);
  s.moe.shared_hidden = shared * s.moe.expert_hidden;
}
void write_router(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  const RouterRule& r = s.moe.router;
  m.set(prefix + "expert_gating_func", int64_t{r.score == Score::Softmax ? 1 : 2});
  m.set(prefix + "expert_weights_norm", r.renormalise);
  m.set(prefix + "expert_weights_scale", double{r.scale});
  m.set(prefix + "expert_shared_count", int64_t{s.moe.shared_hidden / s.moe.expert_hidden});
  m.set(prefix + "leading_dense_block_count", int64_t{s.leading_dense_layers()});
}

}  // namespace

void read_gguf_dense(const GgufMetadata&, const std::string&, ModelSpec&) {}
void write_gguf_dense(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  m.set(prefix + "feed_forward_length", int64_t{s.dense_hidden});
}
void read_gguf_qwen3(const GgufMetadata&, const std::string&, ModelSpec& s) { s.attention.qk_norm = QkNorm::PerHead; }

void read_gguf_mixtral(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  s.moe.expert_hidden = integer(m, prefix + "feed_forward_length");
}
void write_gguf_mixtral(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  m.set(prefix + "feed_forward_length", int64_t{s.moe.expert_hidden});
}

void read_gguf_olmoe(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_gguf_mixtral(m, prefix, s);
  s.attention.qk_norm = QkNorm::Whole;
  s.moe.router.renormalise = false;
}

void read_gguf_qwen3_moe(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  s.moe.expert_hidden = integer(m, prefix + "expert_feed_forward_length");
  s.attention.qk_norm = QkNorm::PerHead;
}
void write_gguf_qwen_moe(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  m.set(prefix + "feed_forward_length", int64_t{s.dense_hidden > 0 ? s.dense_hidden : s.moe.expert_hidden});
  m.set(prefix + "expert_feed_forward_length", int64_t{s.moe.expert_hidden});
}

void read_gguf_qwen2_moe(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  s.moe.expert_hidden = integer(m, prefix + "expert_feed_forward_length");
  s.moe.shared_hidden = integer(m, prefix + "expert_shared_feed_forward_length");
  s.moe.shared_gate = true;
  s.moe.router.renormalise = false;
}
void write_gguf_qwen2_moe(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  write_gguf_qwen_moe(s, prefix, m);
  m.set(prefix + "expert_shared_feed_forward_length", int64_t{s.moe.shared_hidden});
}

void read_gguf_glm4(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_router(m, prefix, Score::Sigmoid, s);
  require(s.moe.router.score == Score::Sigmoid, "{}: expert_gating_func must be 2 (sigmoid) for this family", m.where);
  s.moe.router.has_selection_bias = true;
  s.moe.router.renormalise = !m.has(prefix + "expert_weights_norm") || m.boolean(prefix + "expert_weights_norm");
  s.attention.qk_norm = QkNorm::PerHead;  // if the tensors are there
}
void write_gguf_glm4(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  write_gguf_qwen_moe(s, prefix, m);
  write_router(s, prefix, m);
}

void read_gguf_deepseek(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_router(m, prefix, Score::Softmax, s);
  const bool sigmoid = s.moe.router.score == Score::Sigmoid;
  s.moe.router.has_selection_bias = sigmoid;
  if (sigmoid && s.moe.router.num_groups > 1) s.moe.router.group_score = spec::GroupScore::BestTwo;

  // Older files give the sizes of a head without _mla; newer ones mean the latent by those.
  const bool older = !m.has(prefix + "attention.key_length_mla");
  const std::string mla = older ? "" : "_mla";
  spec::LatentSpec latent;
  latent.query_rank = integer(m, prefix + "attention.q_lora_rank", 0);
  latent.kv_rank = integer(m, prefix + "attention.kv_lora_rank");
  latent.rope_dim = integer(m, prefix + "rope.dimension_count");
  latent.value_dim = integer(m, prefix + "attention.value_length" + mla);
  s.attention.head_dim = integer(m, prefix + "attention.key_length" + mla);
  latent.plain_dim = s.attention.head_dim - latent.rope_dim;
  s.attention.latent = latent;
  s.attention.rope.dim = 0;
  s.attention.num_kv_heads = s.attention.num_heads;

  // The stretch sharpens the scores, by the square of YaRN's amplitude, and leaves cosines and sines alone.
  spec::RopeScaling& scaling = s.attention.rope.scaling;
  const std::string key = prefix + "rope.scaling.yarn_log_multiplier";
  if (scaling.kind != spec::RopeScalingKind::Yarn || !m.has(key)) return;
  const float sharper = spec::yarn_amplitude(scaling.factor, 10 * static_cast<float>(m.number(key)));
  s.attention.score_scale = sharper * sharper / std::sqrt(static_cast<float>(s.attention.head_dim));
  scaling.amplitude = scaling.long_amplitude = 1;
}
void write_gguf_deepseek(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  const spec::LatentSpec& latent = *s.attention.latent;
  const auto set = [&](const char* key, int64_t value) { m.set(prefix + key, value); };
  write_gguf_qwen_moe(s, prefix, m);
  write_router(s, prefix, m);
  set("expert_group_count", s.moe.router.num_groups);
  set("expert_group_used_count", s.moe.router.groups_per_token);
  set("attention.head_count_kv", 1);
  if (latent.query_rank > 0) set("attention.q_lora_rank", latent.query_rank);
  set("attention.kv_lora_rank", latent.kv_rank);
  set("attention.key_length", latent.kv_rank + latent.rope_dim);
  set("attention.value_length", latent.kv_rank);
  set("attention.key_length_mla", s.attention.head_dim);
  set("attention.value_length_mla", latent.value_dim);
  set("rope.dimension_count", latent.rope_dim);

  const spec::RopeScaling& scaling = s.attention.rope.scaling;
  if (scaling.kind != spec::RopeScalingKind::Yarn) return;
  require(std::abs(scaling.amplitude - 1) < 1e-5f, "{}: llama.cpp's deepseek2 has no amplitude of its own for yarn (found {})",
          m.where, scaling.amplitude);
  const float sharper = std::sqrt(s.attention.scale() * std::sqrt(static_cast<float>(s.attention.head_dim)));
  m.set(prefix + "rope.scaling.yarn_log_multiplier", double{(sharper - 1) / std::log(scaling.factor)});
}

void read_gguf_minimax(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_router(m, prefix, Score::Sigmoid, s);
  s.moe.router.has_selection_bias = s.moe.router.renormalise = true;
  s.attention.qk_norm = QkNorm::Whole;
}
void write_gguf_minimax(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  write_gguf_mixtral(s, prefix, m);
  m.set(prefix + "expert_feed_forward_length", int64_t{s.moe.expert_hidden});
  m.set(prefix + "expert_gating_func", int64_t{2});
}

void read_gguf_granite(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  read_gguf_mixtral(m, prefix, s);
  s.attention.score_scale = number(m, prefix + "attention.scale", 0);
  s.embedding_scale = number(m, prefix + "embedding_scale", 1);
  s.residual_scale = number(m, prefix + "residual_scale", 1);
  s.logit_scale = 1.0f / number(m, prefix + "logit_scale", 1);
}
void write_gguf_granite(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) {
  write_gguf_mixtral(s, prefix, m);
  m.set(prefix + "attention.scale", double{s.attention.scale()});
  m.set(prefix + "embedding_scale", double{s.embedding_scale});
  m.set(prefix + "residual_scale", double{s.residual_scale});
  m.set(prefix + "logit_scale", double{1.0f / s.logit_scale});
}

void read_gguf_gpt_oss(const GgufMetadata& m, const std::string& prefix, ModelSpec& s) {
  s.moe.expert_hidden = integer(m, prefix + "expert_feed_forward_length");
  s.moe.router_bias = s.moe.expert_bias = true;
  s.moe.activation = spec::Activation::ClampedSwiGlu;
  s.attention.sinks = true;
  for (int layer = 0; layer < s.num_layers; ++layer) s.attention.windowed.push_back(layer % 2 == 0);
}
void write_gguf_gpt_oss(const ModelSpec& s, const std::string& prefix, GgufMetadata& m) { write_gguf_qwen_moe(s, prefix, m); }

}  // namespace moiety::format
