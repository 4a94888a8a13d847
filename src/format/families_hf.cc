#include "format/families_hf.h"

#include <algorithm>
#include <cmath>

namespace moiety::format {
namespace {

using spec::FeedForward;
using spec::ModelSpec;
using spec::QkNorm;
using spec::RouterRule;
using spec::Score;

constexpr int64_t kMany = 1 << 24;  // more than any size; check(spec) has the real bounds

int size(const JsonObject& config, const char* key) { return static_cast<int>(config.integer(key, 0, kMany)); }

float number(const JsonObject& config, const char* key, double otherwise) {
  return static_cast<float>(config.number(key, otherwise));
}

void all_dense(const JsonObject& c, ModelSpec& s) {
  s.feed_forward.assign(s.num_layers, FeedForward::Dense);
  s.dense_hidden = size(c, "intermediate_size");
}

// Implementations keep both biases under one name.
void attention_bias(const JsonObject& c, ModelSpec& s) {
  s.attention.qkv_bias = s.attention.output_bias = c.boolean("attention_bias", false);
}

void read_window(const JsonObject& c, ModelSpec& s) {
  s.attention.sliding_window = static_cast<int>(c.integer("sliding_window", 0, INT32_MAX, 0));
}
void write_window(const ModelSpec& s, Json& c) {
  c["sliding_window"] = s.attention.sliding_window > 0 ? Json(s.attention.sliding_window) : Json();
}

// Qwen's: only if use_sliding_window, and then from layer max_window_layers on unless layer_types says otherwise.
void read_layer_types(const JsonObject& c, ModelSpec& s) {
  if (!c.has("layer_types")) return;
  const Json& types = c.array("layer_types");
  require(types.size() == static_cast<size_t>(s.num_layers), "{}: layer_types names {} layers, expected {}", c.where(),
          types.size(), s.num_layers);
  s.attention.windowed.clear();
  for (const Json& type : types) {
    require(type == "full_attention" || type == "sliding_attention",
            "{}: layer_types holds {}, expected \"full_attention\" or \"sliding_attention\"", c.where(), type.dump());
    s.attention.windowed.push_back(type == "sliding_attention");
  }
}
void read_qwen_window(const JsonObject& c, ModelSpec& s) {
  if (!c.boolean("use_sliding_window", false)) return;
  read_window(c, s);
  const int64_t first = c.integer("max_window_layers", 0, kMany, 28);
  for (int layer = 0; layer < s.num_layers; ++layer) s.attention.windowed.push_back(layer >= first);
  read_layer_types(c, s);
}
void write_layer_types(const ModelSpec& s, Json& c) {
  Json types = Json::array();
  for (int layer = 0; layer < s.num_layers; ++layer) {
    types.push_back(s.attention.window(layer) > 0 ? "sliding_attention" : "full_attention");
  }
  c["layer_types"] = types;
}

// DeepSeek and GLM: the first layers are dense, then every moe_layer_freq-th is sparse.
void read_leading_dense(const JsonObject& c, ModelSpec& s, int64_t otherwise) {
  const int64_t dense = c.integer("first_k_dense_replace", 0, s.num_layers, otherwise);
  const int64_t step = c.integer("moe_layer_freq", 1, kMany, 1);
  for (int layer = 0; layer < s.num_layers; ++layer) {
    const bool sparse = layer >= dense && layer % step == 0;
    s.feed_forward[layer] = sparse ? FeedForward::Moe : FeedForward::Dense;
  }
  s.dense_hidden = size(c, "intermediate_size");
}
void write_leading_dense(const ModelSpec& s, Json& c) {
  c["first_k_dense_replace"] = s.leading_dense_layers();
  c["intermediate_size"] = s.dense_hidden > 0 ? s.dense_hidden : s.moe.expert_hidden;
}

// What DeepSeek and GLM call the router's and the shared experts' numbers.
void read_routed_and_shared(const JsonObject& c, ModelSpec& s) {
  RouterRule& r = s.moe.router;
  r.num_experts = size(c, "n_routed_experts");
  r.experts_per_token = size(c, "num_experts_per_tok");
  r.scale = number(c, "routed_scaling_factor", 1);
  s.moe.expert_hidden = size(c, "moe_intermediate_size");
  s.moe.shared_hidden = static_cast<int>(c.integer("n_shared_experts", 0, 4096, 0)) * s.moe.expert_hidden;
}
void write_routed_and_shared(const ModelSpec& s, Json& c) {
  const RouterRule& r = s.moe.router;
  c["n_routed_experts"] = r.num_experts;
  c["num_experts_per_tok"] = r.experts_per_token;
  c["norm_topk_prob"] = r.renormalise;
  c["routed_scaling_factor"] = r.scale;
  c["moe_intermediate_size"] = s.moe.expert_hidden;
  c["n_shared_experts"] = s.moe.shared_hidden > 0 ? Json(s.moe.shared_hidden / s.moe.expert_hidden) : Json();
  c["n_group"] = r.num_groups;
  c["topk_group"] = r.groups_per_token;
}
void read_groups(const JsonObject& c, spec::GroupScore score, ModelSpec& s) {
  s.moe.router.num_groups = static_cast<int>(c.integer("n_group", 1, kMany, 1));
  s.moe.router.groups_per_token = static_cast<int>(c.integer("topk_group", 1, kMany, 1));
  if (s.moe.router.num_groups > 1) s.moe.router.group_score = score;
}

void read_local_experts(const JsonObject& c, ModelSpec& s) {
  s.moe.router.num_experts = size(c, "num_local_experts");
  s.moe.router.experts_per_token = size(c, "num_experts_per_tok");
  s.moe.expert_hidden = size(c, "intermediate_size");
}
void write_local_experts(const ModelSpec& s, Json& c) {
  c["num_local_experts"] = s.moe.router.num_experts;
  c["num_experts_per_tok"] = s.moe.router.experts_per_token;
  c["intermediate_size"] = s.moe.expert_hidden;
}

}  // namespace

// --- Dense models ---

void read_hf_llama(const JsonObject& c, ModelSpec& s) {
  all_dense(c, s);
  attention_bias(c, s);
  require(!c.boolean("mlp_bias", false), "{}: mlp_bias is not supported", c.where());
}
void write_hf_llama(const ModelSpec& s, Json& c) {
  c["intermediate_size"] = s.dense_hidden;
  c["mlp_bias"] = false;
}

void read_hf_mistral(const JsonObject& c, ModelSpec& s) {
  all_dense(c, s);
  read_window(c, s);
}
void write_hf_mistral(const ModelSpec& s, Json& c) {
  c["intermediate_size"] = s.dense_hidden;
  write_window(s, c);
}

void read_hf_qwen3(const JsonObject& c, ModelSpec& s) {
  all_dense(c, s);
  attention_bias(c, s);
  read_qwen_window(c, s);
  s.attention.qk_norm = QkNorm::PerHead;
}
void write_hf_qwen3(const ModelSpec& s, Json& c) {
  c["intermediate_size"] = s.dense_hidden;
  c["use_sliding_window"] = s.attention.sliding_window > 0;
  write_window(s, c);
  write_layer_types(s, c);
}

// --- Mixtral: softmax, renormalised, nothing else ---

void read_hf_mixtral(const JsonObject& c, ModelSpec& s) {
  read_local_experts(c, s);
  read_window(c, s);
}
void write_hf_mixtral(const ModelSpec& s, Json& c) {
  write_local_experts(s, c);
  write_window(s, c);
}

// --- OLMoE: softmax, norm over all heads ---

void read_hf_olmoe(const JsonObject& c, ModelSpec& s) {
  s.moe.router.num_experts = size(c, "num_experts");
  s.moe.router.experts_per_token = size(c, "num_experts_per_tok");
  s.moe.router.renormalise = c.boolean("norm_topk_prob", false);
  s.moe.expert_hidden = size(c, "intermediate_size");
  attention_bias(c, s);
  s.attention.qk_norm = QkNorm::Whole;
  s.attention.clip_qkv = number(c, "clip_qkv", 0);
}
void write_hf_olmoe(const ModelSpec& s, Json& c) {
  c["num_experts"] = s.moe.router.num_experts;
  c["num_experts_per_tok"] = s.moe.router.experts_per_token;
  c["norm_topk_prob"] = s.moe.router.renormalise;
  c["intermediate_size"] = s.moe.expert_hidden;
  c["clip_qkv"] = s.attention.clip_qkv > 0 ? Json(s.attention.clip_qkv) : Json();
}

// --- Qwen: experts among dense layers by step ---

namespace {

// Sparse are the layers whose number + 1 is a multiple of decoder_sparse_step and that mlp_only_layers leaves out.
void read_qwen_moe(const JsonObject& c, ModelSpec& s) {
  s.moe.router.num_experts = size(c, "num_experts");
  s.moe.router.experts_per_token = size(c, "num_experts_per_tok");
  s.moe.router.renormalise = c.boolean("norm_topk_prob", false);
  s.moe.expert_hidden = size(c, "moe_intermediate_size");
  s.dense_hidden = size(c, "intermediate_size");
  const int64_t step = c.integer("decoder_sparse_step", 1, kMany, 1);
  for (int layer = 0; layer < s.num_layers; ++layer) {
    s.feed_forward[layer] = (layer + 1) % step == 0 ? FeedForward::Moe : FeedForward::Dense;
  }
  if (!c.has("mlp_only_layers")) return;
  for (const Json& layer : c.array("mlp_only_layers")) {
    require(layer.is_number_unsigned() && layer.get<uint64_t>() < s.feed_forward.size(),
            "{}: mlp_only_layers names a layer that the model does not have", c.where());
    s.feed_forward[layer.get<size_t>()] = FeedForward::Dense;
  }
}

}  // namespace

void write_hf_qwen_moe(const ModelSpec& s, Json& c) {
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
  c["use_sliding_window"] = s.attention.sliding_window > 0;
  write_window(s, c);
}

void read_hf_qwen3_moe(const JsonObject& c, ModelSpec& s) {
  read_qwen_moe(c, s);
  attention_bias(c, s);
  if (c.boolean("use_sliding_window", false)) read_window(c, s);
  s.attention.qk_norm = QkNorm::PerHead;
}

void read_hf_qwen2_moe(const JsonObject& c, ModelSpec& s) {
  read_qwen_moe(c, s);
  read_qwen_window(c, s);
  s.moe.shared_hidden = size(c, "shared_expert_intermediate_size");
  s.moe.shared_gate = true;
  s.attention.qkv_bias = c.boolean("qkv_bias", true);
}
void write_hf_qwen2_moe(const ModelSpec& s, Json& c) {
  write_hf_qwen_moe(s, c);
  write_layer_types(s, c);
  c["shared_expert_intermediate_size"] = s.moe.shared_hidden;
  c["qkv_bias"] = true;
}

// --- GLM-4.5 and dots.llm1: sigmoid scores, selection bias, shared experts, dense layers first ---

namespace {

void read_sigmoid_moe(const JsonObject& c, int64_t dense_layers, ModelSpec& s) {
  read_routed_and_shared(c, s);
  read_groups(c, spec::GroupScore::BestTwo, s);
  read_leading_dense(c, s, dense_layers);
  s.moe.router.score = Score::Sigmoid;
  s.moe.router.has_selection_bias = true;
  s.moe.router.renormalise = c.boolean("norm_topk_prob", true);
}

}  // namespace

void read_hf_dots1(const JsonObject& c, ModelSpec& s) {
  read_sigmoid_moe(c, 0, s);
  attention_bias(c, s);
  s.attention.qk_norm = QkNorm::PerHead;
}
void write_hf_dots1(const ModelSpec& s, Json& c) {
  write_routed_and_shared(s, c);
  write_leading_dense(s, c);
}

void read_hf_glm4(const JsonObject& c, ModelSpec& s) {
  read_sigmoid_moe(c, 1, s);
  s.attention.qkv_bias = c.boolean("attention_bias", false);
  s.attention.qk_norm = c.boolean("use_qk_norm", false) ? QkNorm::PerHead : QkNorm::None;
  s.attention.rope.dim = static_cast<int>(static_cast<double>(s.attention.head_dim) * c.number("partial_rotary_factor", 0.5));
}
void write_hf_glm4(const ModelSpec& s, Json& c) {
  write_routed_and_shared(s, c);
  write_leading_dense(s, c);
  c["partial_rotary_factor"] = static_cast<double>(s.attention.rope_dim()) / s.attention.head_dim;
  c["use_qk_norm"] = s.attention.qk_norm == QkNorm::PerHead;
}

// --- DeepSeek: latent attention, groups of experts, shared experts, dense layers first ---

namespace {

void read_deepseek(const JsonObject& c, spec::GroupScore group_score, ModelSpec& s) {
  read_routed_and_shared(c, s);
  read_groups(c, group_score, s);
  read_leading_dense(c, s, 0);
  require(!c.boolean("attention_bias", false), "{}: attention_bias is not supported for this family", c.where());
  const spec::LatentSpec latent{.query_rank = static_cast<int>(c.integer("q_lora_rank", 0, kMany, 0)),
                                .kv_rank = size(c, "kv_lora_rank"),
                                .plain_dim = size(c, "qk_nope_head_dim"),
                                .rope_dim = size(c, "qk_rope_head_dim"),
                                .value_dim = size(c, "v_head_dim")};
  s.attention.latent = latent;
  s.attention.head_dim = latent.plain_dim + latent.rope_dim;
  s.attention.num_kv_heads = s.attention.num_heads;

  // The stretch sharpens the scores, by the square of YaRN's amplitude.
  if (s.attention.rope.scaling.kind != spec::RopeScalingKind::Yarn || !c.has("rope_scaling")) return;
  const float weight = number(c.object("rope_scaling"), "mscale_all_dim", 0);
  if (weight == 0) return;
  const float sharper = spec::yarn_amplitude(s.attention.rope.scaling.factor, weight);
  s.attention.score_scale = sharper * sharper * s.attention.scale();
}

void write_deepseek(const ModelSpec& s, Json& c) {
  const spec::LatentSpec& latent = *s.attention.latent;
  write_routed_and_shared(s, c);
  write_leading_dense(s, c);
  c["moe_layer_freq"] = 1;
  c["q_lora_rank"] = latent.query_rank > 0 ? Json(latent.query_rank) : Json();
  c["kv_lora_rank"] = latent.kv_rank;
  c["qk_nope_head_dim"] = latent.plain_dim;
  c["qk_rope_head_dim"] = latent.rope_dim;
  c["v_head_dim"] = latent.value_dim;
  c["head_dim"] = latent.rope_dim;
  c["num_key_value_heads"] = s.attention.num_heads;
  const spec::RopeScaling& scaling = s.attention.rope.scaling;
  if (scaling.kind != spec::RopeScalingKind::Yarn) return;
  Json& rope = c["rope_scaling"];
  rope.erase("attention_factor");
  const float plain = 1.0f / std::sqrt(static_cast<float>(s.attention.head_dim));
  const float sharper = std::sqrt(s.attention.scale() / plain), unit = 0.1f * std::log(scaling.factor);
  rope["mscale_all_dim"] = (sharper - 1) / unit;
  rope["mscale"] = (scaling.amplitude * sharper - 1) / unit;
}

}  // namespace

void read_hf_deepseek_v2(const JsonObject& c, ModelSpec& s) {
  read_deepseek(c, spec::GroupScore::Best, s);
  const std::string method = c.text("topk_method", "greedy");
  require(method == "greedy" || method == "group_limited_greedy",
          "{}: topk_method \"{}\", expected \"greedy\" or \"group_limited_greedy\"", c.where(), method);
  if (method == "greedy") s.moe.router.num_groups = s.moe.router.groups_per_token = 1;
  const std::string scores = c.text("scoring_func", "softmax");
  require(scores == "softmax", "{}: scoring_func \"{}\", expected \"softmax\"", c.where(), scores);
  s.moe.router.renormalise = c.boolean("norm_topk_prob", false);
}
void write_hf_deepseek_v2(const ModelSpec& s, Json& c) {
  write_deepseek(s, c);
  c["topk_method"] = s.moe.router.num_groups > 1 ? "group_limited_greedy" : "greedy";
  c["scoring_func"] = "softmax";
}

void read_hf_deepseek_v3(const JsonObject& c, ModelSpec& s) {
  read_deepseek(c, spec::GroupScore::BestTwo, s);
  const std::string method = c.text("topk_method", "noaux_tc"), scores = c.text("scoring_func", "sigmoid");
  require(method == "noaux_tc", "{}: topk_method \"{}\", expected \"noaux_tc\"", c.where(), method);
  require(scores == "sigmoid", "{}: scoring_func \"{}\", expected \"sigmoid\"", c.where(), scores);
  s.moe.router.score = Score::Sigmoid;
  s.moe.router.has_selection_bias = true;
  s.moe.router.renormalise = c.boolean("norm_topk_prob", true);
  if (!c.boolean("rope_interleave", true)) s.attention.rope.pairs = spec::RopePairs::Halves;
}
void write_hf_deepseek_v3(const ModelSpec& s, Json& c) {
  write_deepseek(s, c);
  c["topk_method"] = "noaux_tc";
  c["scoring_func"] = "sigmoid";
  c["rope_interleave"] = true;
}

// --- MiniMax-M2: sigmoid scores, selection bias, a norm over all heads of which a part is rotated ---

void read_hf_minimax(const JsonObject& c, ModelSpec& s) {
  read_local_experts(c, s);
  const std::string scores = c.text("scoring_func", "sigmoid");
  require(scores == "sigmoid", "{}: scoring_func \"{}\", expected \"sigmoid\"", c.where(), scores);
  s.moe.router.score = Score::Sigmoid;
  s.moe.router.has_selection_bias = true;
  s.attention.qk_norm = c.boolean("use_qk_norm", true) ? QkNorm::Whole : QkNorm::None;
  s.attention.rope.dim = static_cast<int>(c.integer("rotary_dim", 2, s.attention.head_dim, s.attention.head_dim));
}
void write_hf_minimax(const ModelSpec& s, Json& c) {
  write_local_experts(s, c);
  c["scoring_func"] = "sigmoid";
  c["use_routing_bias"] = true;
  c["use_qk_norm"] = true;
  c["qk_norm_type"] = "per_layer";
  c["rotary_dim"] = s.attention.rope_dim();
}

// --- Granite: scales everywhere ---

void read_hf_granite(const JsonObject& c, ModelSpec& s) {
  read_local_experts(c, s);
  attention_bias(c, s);
  s.attention.score_scale = number(c, "attention_multiplier", 1);
  s.embedding_scale = number(c, "embedding_multiplier", 1);
  s.residual_scale = number(c, "residual_multiplier", 1);
  s.logit_scale = 1.0f / number(c, "logits_scaling", 1);
}
void write_hf_granite(const ModelSpec& s, Json& c) {
  write_local_experts(s, c);
  c["attention_multiplier"] = s.attention.scale();
  c["embedding_multiplier"] = s.embedding_scale;
  c["residual_multiplier"] = s.residual_scale;
  c["logits_scaling"] = 1.0f / s.logit_scale;
}

// --- JetMoE: attention experts, as many as the others; biases on what they give together ---

void read_hf_jetmoe(const JsonObject& c, ModelSpec& s) {
  read_local_experts(c, s);
  spec::AttentionSpec& a = s.attention;
  a.experts = spec::AttentionExperts{s.moe.router.num_experts, s.moe.router.experts_per_token};
  a.num_kv_heads = size(c, "num_key_value_heads");
  a.num_heads = a.num_kv_heads * a.experts->experts_per_token;  // an expert has a head for each
  a.head_dim = size(c, "kv_channels");
  a.output_bias = s.moe.output_bias = true;
  s.tied_embeddings = c.boolean("tie_word_embeddings", true);
  s.norm_eps = number(c, "rms_norm_eps", 1e-6f);
  const std::string activation = c.text("activation_function", "silu");
  require(activation == "silu", "{}: activation_function \"{}\", expected \"silu\"", c.where(), activation);
}
void write_hf_jetmoe(const ModelSpec& s, Json& c) {
  write_local_experts(s, c);
  c["kv_channels"] = s.attention.head_dim;
  c["activation_function"] = "silu";
}

// --- gpt-oss: sinks, a window in every second layer, biases, a clamped activation ---

void read_hf_gpt_oss(const JsonObject& c, ModelSpec& s) {
  read_local_experts(c, s);
  attention_bias(c, s);
  s.moe.router_bias = s.moe.expert_bias = true;
  s.moe.activation = spec::Activation::ClampedSwiGlu;
  require(c.number("swiglu_limit", 7) == 7, "{}: swiglu_limit is {}, expected 7", c.where(), c.number("swiglu_limit", 7));
  s.attention.sinks = true;
  s.attention.sliding_window = static_cast<int>(c.integer("sliding_window", 0, INT32_MAX, 128));
  for (int layer = 0; layer < s.num_layers; ++layer) s.attention.windowed.push_back(layer % 2 == 0);
  read_layer_types(c, s);
}
void write_hf_gpt_oss(const ModelSpec& s, Json& c) {
  write_local_experts(s, c);
  write_window(s, c);
  write_layer_types(s, c);
  c["swiglu_limit"] = 7.0;
  c["attention_bias"] = true;
}

// --- Phi-3.5-MoE: layer norms, SparseMixer ---

void read_hf_phimoe(const JsonObject& c, ModelSpec& s) {
  read_local_experts(c, s);
  attention_bias(c, s);
  read_window(c, s);
  s.norm = spec::Norm::Layer;
  s.head_bias = c.boolean("lm_head_bias", false);
  s.moe.router.score = Score::Logits;
  s.moe.router.weigh = spec::Weigh::SparseMixer;
  s.moe.router.renormalise = false;
  s.moe.router.sparse_mixer_reach = 2 * number(c, "router_jitter_noise", 0.01);
}
void write_hf_phimoe(const ModelSpec& s, Json& c) {
  write_local_experts(s, c);
  write_window(s, c);
  c["lm_head_bias"] = s.head_bias;
  c["router_jitter_noise"] = s.moe.router.sparse_mixer_reach / 2;
  c["input_jitter_noise"] = 0.0;
  const spec::RopeScaling& scaling = s.attention.rope.scaling;
  if (scaling.kind != spec::RopeScalingKind::Factors) return;
  Json& rope = c["rope_scaling"];
  rope["short_mscale"] = scaling.amplitude;
  rope["long_mscale"] = scaling.long_amplitude;
}

}  // namespace moiety::format
