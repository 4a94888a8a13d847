// The model that a configuration describes.
#include <algorithm>

#include "base/error.h"
#include "train/config.h"
#include "train/config_check.h"

namespace moiety::train {
namespace {

// Names that Reader has let through.
spec::LogitActivation logit_activation_named(std::string_view name) {
  using enum spec::LogitActivation;
  return name == "tanh" ? Tanh : name == "sigmoid" ? Sigmoid : name == "silu" ? Silu : None;
}
spec::Score score_named(std::string_view name) {
  using enum spec::Score;
  return name == "sigmoid" ? Sigmoid : name == "logits" ? Logits : Softmax;
}
spec::Select select_named(std::string_view name) {
  using enum spec::Select;
  return name == "grouped"         ? Grouped
         : name == "top_p"         ? TopP
         : name == "threshold"     ? Threshold
         : name == "expert_choice" ? ExpertChoice
         : name == "tsallis"       ? Tsallis
                                   : TopK;
}

spec::Gate gate_named(const std::string& name) {
  using spec::Gate;
  constexpr std::pair<const char*, Gate> kGates[] = {{"linear", Gate::Linear},       {"cosine", Gate::Cosine}, {"hash", Gate::Hash},
                                                     {"random", Gate::Random},       {"recurrent", Gate::Recurrent},
                                                     {"tree", Gate::Tree},           {"ahead", Gate::Ahead},
                                                     {"decoupled", Gate::Decoupled}};
  return std::ranges::find(kGates, name, [](const auto& row) { return std::string(row.first); })->second;
}

// What a gate has no use for stays as it is by default.
void set_gate(const TrainConfig::Model& m, spec::RouterRule& rule) {
  using spec::Gate;
  rule.gate = gate_named(m.gate);
  const bool has_width = rule.gate == Gate::Cosine || rule.gate == Gate::Recurrent || rule.gate == Gate::Decoupled;
  if (has_width) rule.gate_width = static_cast<int>(m.gate_width);
  if (rule.gate == Gate::Cosine) {
    rule.gate_temperature = static_cast<float>(m.gate_temperature);
    rule.gate_learns_temperature = m.gate_learns_temperature;
  }
  if (rule.gate == Gate::Tree) rule.gate_step = static_cast<float>(m.gate_step);
  if (!rule.is_learnt()) rule.gate_seed = m.gate_seed;
}

}  // namespace

spec::ModelSpec model_spec(const TrainConfig& config, int vocab_size, int end_of_text) {
  const TrainConfig::Model& m = config.model;
  const auto as_int = [](int64_t value) { return static_cast<int>(value); };
  spec::ModelSpec s{.family = "moiety"};
  s.num_layers = as_int(m.layers);
  s.width = as_int(m.width);
  s.vocab_size = vocab_size;
  s.max_positions = as_int(m.max_positions > 0 ? m.max_positions : config.train.sequence);
  s.norm_eps = static_cast<float>(m.norm_eps);
  s.tied_embeddings = m.tied_embeddings;
  s.attention = {.num_heads = as_int(m.heads),
                 .num_kv_heads = as_int(m.kv_heads),
                 .head_dim = as_int(m.head_dim),
                 .qk_norm = m.qk_norm == "none"       ? spec::QkNorm::None
                            : m.qk_norm == "per_head" ? spec::QkNorm::PerHead
                                                      : spec::QkNorm::Whole,
                 .weigh = m.attention_weights == "softmax" ? spec::AttentionWeigh::Softmax : spec::AttentionWeigh::StickBreaking,
                 .rope = {.theta = static_cast<float>(m.rope_theta)}};
  if (m.attention_experts > 0) {
    s.attention.experts = spec::AttentionExperts{as_int(m.attention_experts), as_int(m.attention_experts_per_token)};
  }
  s.moe.router = {.num_experts = as_int(m.experts + m.gru_experts),
                  .experts_per_token = as_int(m.experts_per_token),
                  .logit_activation = logit_activation_named(m.logit_activation),
                  .temperature = static_cast<float>(m.temperature),
                  .score = score_named(m.score),
                  .gating_residual = m.gating_residual,
                  .select = select_named(m.select),
                  .has_selection_bias = config.balance.bias_rate > 0 || m.select == "expert_choice",
                  .num_groups = as_int(m.groups),
                  .groups_per_token = as_int(m.groups_per_token == 0 ? m.groups : m.groups_per_token),
                  .group_score = m.group_score == "best" ? spec::GroupScore::Best : spec::GroupScore::BestTwo,
                  .top_p = static_cast<float>(m.top_p),
                  .threshold = static_cast<float>(m.threshold),
                  .tsallis_q = static_cast<float>(m.tsallis_q),
                  .soft_entropy = static_cast<float>(m.soft_entropy),
                  .null_experts = as_int(m.null_experts),
                  .zero_experts = as_int(m.zero_experts),
                  .copy_experts = as_int(m.copy_experts),
                  .constant_experts = as_int(m.constant_experts),
                  .weigh = m.weigh == "scores" ? spec::Weigh::Scores : spec::Weigh::SparseMixer,
                  .renormalise = m.renormalise,
                  .scale = static_cast<float>(m.scale)};
  set_gate(m, s.moe.router);
  s.moe.expert_hidden = as_int(m.expert_hidden);
  s.moe.shared_hidden = as_int(m.shared_hidden);
  s.moe.shared_gate = m.shared_gate;
  s.dense_hidden = as_int(m.dense_hidden);
  s.moe.shared_mix = m.shared_mix;
  s.moe.iterations = as_int(m.iterations);
  s.moe.expert_width = as_int(m.expert_width);
  s.moe.ternary_experts = m.ternary_experts;
  s.moe.gru_experts = as_int(m.gru_experts);
  s.moe.gru_hidden = m.gru_experts > 0 ? as_int(m.gru_hidden) : 0;
  s.moe.momentum = {.kind = m.momentum == "heavy_ball" ? spec::Momentum::HeavyBall
                            : m.momentum == "adam"     ? spec::Momentum::Adam
                                                       : spec::Momentum::None,
                    .decay = static_cast<float>(m.momentum_decay),
                    .square_decay = static_cast<float>(m.momentum_square_decay),
                    .step = static_cast<float>(m.momentum_step)};
  size_t moe_layer = 0;
  for (int64_t layer = 0; layer < m.layers; ++layer) {
    const bool is_moe = is_moe_layer(m, layer);
    s.feed_forward.push_back(is_moe ? spec::FeedForward::Moe : spec::FeedForward::Dense);
    if (!m.experts_by_layer.empty()) s.moe.experts_L.push_back(is_moe ? as_int(m.experts_by_layer[moe_layer++] + m.gru_experts) : 0);
  }
  s.eos_tokens = {end_of_text};
  spec::check(s, "the configuration");
  return s;
}

}  // namespace moiety::train
