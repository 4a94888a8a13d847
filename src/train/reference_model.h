// For tests: a model's weights as torch leaves, and the whole forward pass once more in plain torch operations, slow and
// in double precision. What it shares with the fast one is the ModelSpec and moe::choose_experts.
#pragma once

#include <map>
#include <string>

#include "format/ternary.h"
#include "moe/route.h"
#include "train/batch.h"
#include "train/functions.h"
#include "train/weights.h"

namespace moiety::train::reference {

struct Model {
  spec::ModelSpec spec;
  std::map<std::string, Tensor> weights;  // double, by the names of model.safetensors; leaves that want gradients

  Model(const spec::ModelSpec& model_spec, Weights& from) : spec(model_spec) {
    for (const Weights::Entry& entry : from.entries()) {
      const Tensor flat = torch::from_blob(from.values().data() + entry.begin, {static_cast<int64_t>(entry.size)});
      weights[entry.name] = flat.reshape(entry.shape).to(torch::kFloat64).clone().set_requires_grad(true);
    }
  }
  const Tensor& at(const std::string& name) const { return weights.at(name); }
  const Tensor& at(int layer, const std::string& name) const { return at(fmt::format("layers.{}.{}", layer, name)); }
};

inline Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return x * torch::rsqrt(x.pow(2).mean(-1, true) + eps) * weight;
}

inline Tensor swiglu(const Tensor& x, const Tensor& gate, const Tensor& up, const Tensor& down) {
  return torch::linear(torch::silu(torch::linear(x, gate)) * torch::linear(x, up), down);
}

// x [T, heads, head_dim], positions [T]
inline Tensor rotate(const Tensor& x, const Tensor& positions, double theta) {
  const int64_t half = x.size(-1) / 2;
  const Tensor turns = torch::pow(theta, -torch::arange(half, torch::kFloat64) / half);
  const Tensor angle = (positions.unsqueeze(-1) * turns).unsqueeze(1);
  const Tensor a = x.slice(-1, 0, half), b = x.slice(-1, half);
  return torch::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()}, -1);
}

// Queries, keys and values [T, …] -> [T, query width]. One mask over all tokens: causal, and closed between segments.
inline Tensor attend(const spec::AttentionSpec& a, double eps, Tensor q, Tensor k, const Tensor& v,
                     const Tensor& query_norm, const Tensor& key_norm, const std::vector<Segment>& segments) {
  const int64_t tokens = q.size(0), group = a.num_heads / a.num_kv_heads;
  Tensor segment = torch::zeros({tokens}, torch::kFloat64), position = torch::zeros({tokens}, torch::kFloat64);
  for (size_t s = 0; s < segments.size(); ++s) {
    const int64_t begin = segments[s].begin, end = begin + segments[s].length;
    segment.slice(0, begin, end).fill_(static_cast<double>(s));
    position.slice(0, begin, end) = torch::arange(segments[s].length, torch::kFloat64);
  }
  if (a.qk_norm == spec::QkNorm::Whole) {
    q = rms_norm(q, query_norm, eps);
    k = rms_norm(k, key_norm, eps);
  }
  q = q.reshape({tokens, a.num_heads, a.head_dim});
  k = k.reshape({tokens, a.num_kv_heads, a.head_dim});
  if (a.qk_norm == spec::QkNorm::PerHead) {
    q = rms_norm(q, query_norm, eps);
    k = rms_norm(k, key_norm, eps);
  }
  q = rotate(q, position, a.rope.theta).transpose(0, 1);
  k = rotate(k, position, a.rope.theta).repeat_interleave(group, 1).transpose(0, 1);
  const Tensor values = v.reshape({tokens, a.num_kv_heads, a.head_dim}).repeat_interleave(group, 1).transpose(0, 1);
  const Tensor open = (segment.unsqueeze(0) == segment.unsqueeze(1)).tril();
  const Tensor scores = torch::matmul(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(a.head_dim));
  const Tensor p = torch::softmax(scores.masked_fill(open.logical_not(), -1e30), -1);
  return torch::matmul(p, values).transpose(0, 1).reshape({tokens, -1});
}

struct RouterTerms {
  Tensor mix_TE;  // zero where an expert wasn't chosen
  Tensor balance, z;
  Tensor chosen_TKE;  // 1 where the expert is the token's K-th choice; undefined if tokens choose different numbers
};

inline RouterTerms route(const spec::RouterRule& rule, const Tensor& logits_TE, std::span<const float> bias_E) {
  const Tensor scores = rule.score == spec::Score::Softmax ? torch::softmax(logits_TE, -1) : torch::sigmoid(logits_TE);
  const Tensor single = scores.detach().to(torch::kFloat32).contiguous();
  const moe::Routing routing = moe::choose_experts(
      rule, {single.data_ptr<float>(), static_cast<size_t>(single.numel())}, bias_E);
  Tensor chosen_TKE = torch::zeros({routing.num_tokens(), rule.experts_per_token, rule.num_experts}, torch::kFloat64);
  for (int t = 0; t < routing.num_tokens(); ++t) {
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
      chosen_TKE[t][n - routing.begin_T1[t]][routing.experts_N[n]] = 1.0;
    }
  }
  const Tensor chosen = chosen_TKE.sum(1);
  Tensor mix = scores * chosen;
  if (rule.renormalise) mix = mix / mix.sum(-1, true);
  const Tensor probability = scores / scores.sum(-1, true);
  const Tensor share = chosen.mean(0) / static_cast<double>(rule.experts_per_token);
  return {mix * static_cast<double>(rule.scale), rule.num_experts * (share * probability.mean(0)).sum(),
          torch::logsumexp(logits_TE, -1).pow(2).mean(), chosen_TKE};
}

// Every expert works on every token; the mix makes most of it nothing.
inline Tensor experts(const Tensor& x, const Tensor& mix_TE, const Tensor& gate, const Tensor& up, const Tensor& down) {
  Tensor sum = torch::zeros_like(x);
  for (int64_t e = 0; e < gate.size(0); ++e) {
    sum = sum + mix_TE.slice(1, e, e + 1) * swiglu(x, gate[e], up[e], down[e]);
  }
  return sum;
}

struct Output {
  Tensor logits, loss;
};

// What goes from layer to layer beside the residual stream, and the losses.
struct State {
  std::vector<Tensor> balance, z;
  Tensor p, v;  // of momentum
};

// A stack of ternary matrices, whose gradient is the latent ones'.
inline Tensor ternary(const Tensor& latent_EFD) {
  Tensor rounded = latent_EFD.detach().to(torch::kFloat32).clone().contiguous();
  for (int64_t e = 0; e < rounded.size(0); ++e) format::ternarise(flat(rounded[e]), flat(rounded[e]));
  return latent_EFD + (rounded.to(torch::kFloat64) - latent_EFD).detach();
}

inline Tensor moe_block(const Model& m, int layer, const Tensor& x, State& state) {
  const spec::MoeSpec& moe = m.spec.moe;
  const spec::RouterRule rule = m.spec.router(layer);
  const auto stack = [&](const char* what) {
    const Tensor& w = m.at(layer, fmt::format("experts.{}.weight", what));
    return moe.ternary_experts ? ternary(w) : w;
  };
  const Tensor gate = stack("gate"), up = stack("up"), down = stack("down");
  Tensor h = x, sum = torch::zeros_like(x);
  for (int64_t i = 0; i < moe.iterations; ++i) {
    const auto of_iteration = [&](const Tensor& all) { return all.slice(0, i * rule.num_experts, (i + 1) * rule.num_experts); };
    std::vector<float> bias;
    if (rule.has_selection_bias) {
      const Tensor values = of_iteration(m.at(layer, "router.bias")).detach().to(torch::kFloat32).contiguous();
      bias.assign(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    }
    const RouterTerms routed = route(rule, torch::linear(h, of_iteration(m.at(layer, "router.weight"))), bias);
    state.balance.push_back(routed.balance);
    state.z.push_back(routed.z);
    Tensor y;
    if (moe.expert_width > 0) {
      y = experts(torch::linear(h, m.at(layer, "experts.descend.weight")), routed.mix_TE, gate, up, down);
      y = torch::linear(y, m.at(layer, "experts.ascend.weight"));
    } else {
      y = experts(h, routed.mix_TE, gate, up, down);
    }
    sum = sum + y;
    h = h + y;
  }
  if (moe.shared_hidden == 0) return sum;
  const Tensor shared = swiglu(x, m.at(layer, "shared.gate.weight"), m.at(layer, "shared.up.weight"), m.at(layer, "shared.down.weight"));
  if (moe.shared_mix) {
    const Tensor share = torch::softmax(torch::linear(x, m.at(layer, "shared.scale.weight")), -1);
    return share.slice(1, 0, 1) * sum + share.slice(1, 1, 2) * shared;
  }
  return sum + (moe.shared_gate ? shared * torch::sigmoid(torch::linear(x, m.at(layer, "shared.scale.weight"))) : shared);
}

inline Tensor with_momentum(const spec::MomentumSpec& spec, const Tensor& y, State& state) {
  const double mu = spec.decay, beta = spec.square_decay, step = spec.step;
  const auto before = [&](const Tensor& x) { return x.defined() ? x : torch::zeros_like(y); };
  switch (spec.kind) {
    case spec::Momentum::None:
      return y;
    case spec::Momentum::HeavyBall:
      return step * (state.p = mu * before(state.p) + y);
    case spec::Momentum::Adam:
      state.p = mu * before(state.p) + (1 - mu) * y;
      state.v = beta * before(state.v) + (1 - beta) * y.pow(2);
      return step * state.p / torch::sqrt(state.v + static_cast<double>(spec.eps));
  }
  return y;
}

// Every expert makes queries and outputs of every token; the choice makes most of it nothing.
inline Tensor attention_experts(const Model& m, int layer, const Tensor& x, const Tensor& key_norm, const Tensor& query_norm,
                                const std::vector<Segment>& segments, State& state) {
  const spec::AttentionSpec& a = m.spec.attention;
  const int64_t tokens = x.size(0), per_token = a.experts->experts_per_token, kv = a.num_kv_heads;
  const int64_t group = a.num_heads / per_token / kv * a.head_dim;
  const RouterTerms routed = route(a.experts->rule(), torch::linear(x, m.at(layer, "attention.router.weight")), {});
  state.balance.push_back(routed.balance);
  state.z.push_back(routed.z);
  const Tensor all_TEQ = torch::einsum("td,eqd->teq", {x, m.at(layer, "attention.experts.query.weight")});
  const Tensor query_TKQ = torch::einsum("tke,teq->tkq", {routed.chosen_TKE, all_TEQ});
  const Tensor query = query_TKQ.reshape({tokens, per_token, kv, group}).permute({0, 2, 1, 3}).reshape({tokens, -1});
  const Tensor mixed = attend(a, m.spec.norm_eps, query, torch::linear(x, m.at(layer, "attention.key.weight")),
                              torch::linear(x, m.at(layer, "attention.value.weight")), query_norm, key_norm, segments);
  const Tensor mixed_TKQ = mixed.reshape({tokens, kv, per_token, group}).permute({0, 2, 1, 3}).reshape({tokens, per_token, -1});
  const Tensor out_TKED = torch::einsum("tkq,edq->tked", {mixed_TKQ, m.at(layer, "attention.experts.output.weight")});
  return torch::einsum("tked,tke,te->td", {out_TKED, routed.chosen_TKE, routed.mix_TE});
}

inline Output forward(const Model& m, const Batch& batch, double balance_weight, double z_weight) {
  const spec::ModelSpec& s = m.spec;
  const auto ids = [](const std::vector<int32_t>& values) {
    return torch::tensor(std::vector<int64_t>(values.begin(), values.end()));
  };
  Tensor x = torch::embedding(m.at("embedding.weight"), ids(batch.tokens_T));
  State state;
  for (int layer = 0; layer < s.num_layers; ++layer) {
    const Tensor normed = rms_norm(x, m.at(layer, "attention.norm.weight"), s.norm_eps);
    const auto project = [&](const char* what) {
      return torch::linear(normed, m.at(layer, fmt::format("attention.{}.weight", what)));
    };
    const bool has_norm = s.attention.qk_norm != spec::QkNorm::None;
    const Tensor query_norm = has_norm ? m.at(layer, "attention.query_norm.weight") : Tensor();
    const Tensor key_norm = has_norm ? m.at(layer, "attention.key_norm.weight") : Tensor();
    if (s.attention.experts) {
      x = x + attention_experts(m, layer, normed, key_norm, query_norm, batch.segments, state);
    } else {
      const Tensor attended = attend(s.attention, s.norm_eps, project("query"), project("key"), project("value"), query_norm,
                                     key_norm, batch.segments);
      x = x + torch::linear(attended, m.at(layer, "attention.output.weight"));
    }

    const Tensor h = rms_norm(x, m.at(layer, "feed_forward.norm.weight"), s.norm_eps);
    if (s.feed_forward[layer] == spec::FeedForward::Dense) {
      x = x + swiglu(h, m.at(layer, "dense.gate.weight"), m.at(layer, "dense.up.weight"),
                     m.at(layer, "dense.down.weight"));
      continue;
    }
    x = x + with_momentum(s.moe.momentum, moe_block(m, layer, h, state), state);
  }
  const Tensor logits = torch::linear(rms_norm(x, m.at("final_norm.weight"), s.norm_eps),
                                      m.at(s.tied_embeddings ? "embedding.weight" : "head.weight"));
  Tensor loss = torch::nll_loss_nd(torch::log_softmax(logits, -1), ids(batch.targets_T), {},
                                   at::Reduction::Mean, -1);
  if (!state.balance.empty()) {
    loss = loss + balance_weight * torch::stack(state.balance).mean() + z_weight * torch::stack(state.z).mean();
  }
  return {logits, loss};
}

}  // namespace moiety::train::reference
