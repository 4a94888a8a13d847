#include "spec/weight.h"

#include <algorithm>

#include "spec/expert_kind.h"

namespace moiety::spec {
namespace {

void add_attention(const ModelSpec& spec, int layer, std::vector<Weight>& out) {
  const AttentionSpec& a = spec.attention;
  const auto add = [&](Role role) { out.push_back({role, layer}); };
  const auto add_query = [&] {
    if (a.experts) add(Role::AttentionRouter), add(Role::AttentionExpertQuery);
    else add(Role::Query);
  };
  add(Role::AttentionNorm);
  if (spec.norm == Norm::Layer) add(Role::AttentionNormBias);
  if (a.latent) {
    if (a.latent->query_rank > 0) {
      add(Role::QueryDown), add(Role::QueryDownNorm), add(Role::QueryUp);
    } else {
      add(Role::Query);
    }
    add(Role::KvDown), add(Role::KvDownNorm), add(Role::KeyUp), add(Role::ValueUp);
  } else {
    add_query();
    add(Role::Key), add(Role::Value);
    if (a.qkv_bias) add(Role::QueryBias), add(Role::KeyBias), add(Role::ValueBias);
    if (a.qk_norm != QkNorm::None) add(Role::QueryNorm), add(Role::KeyNorm);
  }
  if (a.sinks) add(Role::Sinks);
  add(a.experts ? Role::AttentionExpertOutput : Role::AttentionOutput);
  if (a.output_bias) add(Role::AttentionOutputBias);
}

void add_experts(const ModelSpec& spec, int layer, bool each_expert, std::vector<Weight>& out) {
  for (const ExpertKindInfo& kind : kExpertKinds) {
    const int count = experts_of(spec, layer, kind.kind);
    if (count == 0) continue;
    const int first = each_expert ? 0 : -1, last = each_expert ? count - 1 : -1;
    for (int expert = first; expert <= last; ++expert) {
      for (const Role role : kind.matrices) out.push_back({role, layer, expert});
      if (!kind.has_biases(spec.moe)) continue;
      for (const std::optional<Role>& role : kind.biases) {
        if (role) out.push_back({*role, layer, expert});
      }
    }
  }
}

bool is_first_moe_layer(const ModelSpec& spec, int layer) {
  return std::find(spec.feed_forward.begin(), spec.feed_forward.begin() + layer, FeedForward::Moe) ==
         spec.feed_forward.begin() + layer;
}

void add_router(const ModelSpec& spec, int layer, std::vector<Weight>& out) {
  const RouterRule& rule = spec.moe.router;
  if (!rule.is_learnt()) return;
  if (rule.gate == Gate::Cosine || rule.gate == Gate::Recurrent) out.push_back({Role::GateDown, layer});
  out.push_back({Role::Router, layer});
  if (rule.gate == Gate::Cosine && rule.gate_learns_temperature) out.push_back({Role::GateTemperature, layer});
  if (rule.gate == Gate::Tree) out.push_back({Role::GateLeaf, layer});
}

// What a gate has once a model.
void add_own_router(const ModelSpec& spec, std::vector<Weight>& out) {
  if (spec.moe_layers() == 0) return;
  if (spec.moe.router.gate == Gate::Recurrent) {
    for (const Role role : {Role::GruInput, Role::GruState, Role::GruInputBias, Role::GruStateBias}) out.push_back({role});
  }
  if (!spec.has_own_router()) return;
  add_attention(spec, spec.num_layers, out);
  out.push_back({Role::FeedForwardNorm, spec.num_layers});
  if (spec.norm == Norm::Layer) out.push_back({Role::FeedForwardNormBias, spec.num_layers});
  out.push_back({Role::GateDown, spec.num_layers});
}

void add_feed_forward(const ModelSpec& spec, int layer, bool each_expert, std::vector<Weight>& out) {
  const auto add = [&](Role role) { out.push_back({role, layer}); };
  add(Role::FeedForwardNorm);
  if (spec.norm == Norm::Layer) add(Role::FeedForwardNormBias);
  if (spec.feed_forward[layer] == FeedForward::Dense) {
    add(Role::DenseGate), add(Role::DenseUp), add(Role::DenseDown);
    return;
  }
  add_router(spec, layer, out);
  if (spec.moe.router_bias) add(Role::RouterBias);
  if (spec.moe.router.has_selection_bias) add(Role::SelectionBias);
  if (spec.moe.router.gating_residual && !is_first_moe_layer(spec, layer)) add(Role::GatingResidual);
  if (spec.moe.router.constant_experts > 0) add(Role::ConstantMix), add(Role::ConstantVector);
  if (spec.moe.expert_width > 0) add(Role::ExpertsDescend), add(Role::ExpertsAscend);
  add_experts(spec, layer, each_expert, out);
  if (spec.moe.output_bias) add(Role::ExpertsBias);
  if (spec.moe.shared_hidden > 0) {
    add(Role::SharedGate), add(Role::SharedUp), add(Role::SharedDown);
    if (spec.moe.shared_gate || spec.moe.shared_mix) add(Role::SharedScale);
  }
}

}  // namespace

std::vector<Weight> weights_of(const ModelSpec& spec, bool each_expert) {
  std::vector<Weight> out{{Role::Embedding}};
  add_own_router(spec, out);
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    add_attention(spec, layer, out);
    add_feed_forward(spec, layer, each_expert, out);
  }
  out.push_back({Role::FinalNorm});
  if (spec.norm == Norm::Layer) out.push_back({Role::FinalNormBias});
  if (!spec.tied_embeddings) out.push_back({Role::Head});
  if (spec.head_bias) out.push_back({Role::HeadBias});
  return out;
}

std::vector<int64_t> shape_of(const ModelSpec& spec, Role role, int layer) {
  const AttentionSpec& a = spec.attention;
  const int64_t d = spec.width, q = int64_t{a.num_heads} * a.head_dim, kv = int64_t{a.num_kv_heads} * a.head_dim;
  const RouterRule rule = layer < 0 || layer >= spec.num_layers ? spec.moe.router : spec.router(layer);
  const int64_t shared = spec.moe.shared_hidden, hidden = spec.moe.expert_hidden, gru = spec.moe.gru_hidden, c = spec.expert_width();
  const int64_t choices = rule.num_choices(), routers = choices * spec.moe.iterations, constants = rule.constant_experts;
  const int64_t attention_experts = a.experts ? a.experts->num_experts : 0, expert_q = int64_t{a.expert_heads()} * a.head_dim;
  const bool per_head = a.qk_norm == QkNorm::PerHead;
  const int64_t experts = rule.num_experts, gate = rule.gate_width, trees = rule.experts_per_token;
  const bool is_narrow = rule.gate == Gate::Cosine || rule.gate == Gate::Recurrent || rule.gate == Gate::Decoupled;
  const LatentSpec latent = a.latent.value_or(LatentSpec{});
  switch (role) {
    case Role::Embedding:
    case Role::Head:
      return {spec.vocab_size, d};
    case Role::HeadBias:
      return {spec.vocab_size};
    case Role::FinalNorm:
    case Role::FinalNormBias:
    case Role::AttentionNorm:
    case Role::AttentionNormBias:
    case Role::AttentionOutputBias:
    case Role::FeedForwardNorm:
    case Role::FeedForwardNormBias:
    case Role::ExpertsBias:
      return {d};
    case Role::Query:
      return {q, d};
    case Role::Key:
    case Role::Value:
      return {kv, d};
    case Role::AttentionOutput:
      return {d, a.latent ? int64_t{a.num_heads} * latent.value_dim : q};
    case Role::AttentionRouter:
      return {attention_experts, d};
    case Role::AttentionExpertQuery:
      return {attention_experts, expert_q, d};
    case Role::AttentionExpertOutput:
      return {attention_experts, d, expert_q};
    case Role::QueryDown:
      return {latent.query_rank, d};
    case Role::QueryDownNorm:
      return {latent.query_rank};
    case Role::QueryUp:
      return {q, latent.query_rank};
    case Role::KvDown:
      return {latent.kv_rank + latent.rope_dim, d};
    case Role::KvDownNorm:
      return {latent.kv_rank};
    case Role::KeyUp:
      return {a.num_heads, latent.kv_rank, latent.plain_dim};
    case Role::ValueUp:
      return {a.num_heads, latent.value_dim, latent.kv_rank};
    case Role::Sinks:
      return {a.num_heads};
    case Role::QueryBias:
      return {q};
    case Role::KeyBias:
    case Role::ValueBias:
      return {kv};
    case Role::QueryNorm:
      return {per_head ? int64_t{a.head_dim} : q};
    case Role::KeyNorm:
      return {per_head ? int64_t{a.head_dim} : kv};
    case Role::DenseGate:
    case Role::DenseUp:
      return {spec.dense_hidden, d};
    case Role::DenseDown:
      return {d, spec.dense_hidden};
    case Role::Router:
      if (rule.gate == Gate::Tree) return {trees * (experts - 1), d};
      return {routers, is_narrow ? gate : d};
    case Role::GateDown:
      return {gate, d};
    case Role::GateTemperature:
      return {1};
    case Role::GateLeaf:
      return {trees * experts, d};
    case Role::GruInput:
    case Role::GruState:
      return {3 * gate, gate};
    case Role::GruInputBias:
    case Role::GruStateBias:
      return {3 * gate};
    case Role::RouterBias:
    case Role::SelectionBias:
      return {routers};
    case Role::GatingResidual:
      return {choices, choices};
    case Role::ConstantMix:
      return {2 * constants, d};
    case Role::ConstantVector:
      return {constants, d};
    case Role::ExpertsDescend:
      return {c, d};
    case Role::ExpertsAscend:
      return {d, c};
    case Role::SharedGate:
    case Role::SharedUp:
      return {shared, d};
    case Role::SharedDown:
      return {d, shared};
    case Role::SharedScale:
      return {spec.moe.shared_mix ? 2 : 1, d};
    case Role::ExpertGate:
    case Role::ExpertUp:
      return {hidden, c};
    case Role::ExpertDown:
      return {c, hidden};
    case Role::ExpertDownBias:
      return {c};
    case Role::ExpertGateBias:
    case Role::ExpertUpBias:
      return {hidden};
    case Role::ExpertGruInput:
      return {3 * gru, c};
    case Role::ExpertGruState:
      return {3 * gru, gru};
    case Role::ExpertGruOutput:
      return {c, gru};
    case Role::ExpertGruInputBias:
    case Role::ExpertGruStateBias:
      return {3 * gru};
  }
  return {};
}

}  // namespace moiety::spec
