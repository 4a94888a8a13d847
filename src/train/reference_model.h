// For tests: a model's weights as torch leaves, and the whole forward pass once more in plain torch operations, slow and
// in double precision. What it shares with the fast one is the ModelSpec and moe::choose_experts.
#pragma once

#include <map>
#include <string>

#include "format/ternary.h"
#include "moe/expert_choice.h"
#include "moe/gate.h"
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

// Stick-breaking by its definition: position j takes sigmoid(score_j) of what all later ones leave, exp(sum of log(1 - sigmoid)).
inline Tensor stick(const Tensor& scores, const Tensor& open) {
  const int64_t tokens = scores.size(-1);
  const Tensor log_left = torch::log_sigmoid(-scores).masked_fill(open.logical_not(), 0);
  const Tensor is_later = torch::ones({tokens, tokens}, torch::kFloat64).tril(-1);  // [k][j]: k > j
  return torch::sigmoid(scores).masked_fill(open.logical_not(), 0) * torch::matmul(log_left, is_later).exp();
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
  const bool is_stick = a.weigh == spec::AttentionWeigh::StickBreaking;
  q = (is_stick ? q : rotate(q, position, a.rope.theta)).transpose(0, 1);
  k = (is_stick ? k : rotate(k, position, a.rope.theta)).repeat_interleave(group, 1).transpose(0, 1);
  const Tensor values = v.reshape({tokens, a.num_kv_heads, a.head_dim}).repeat_interleave(group, 1).transpose(0, 1);
  const Tensor open = (segment.unsqueeze(0) == segment.unsqueeze(1)).tril();
  const Tensor scores = torch::matmul(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(a.head_dim));
  const Tensor p = is_stick ? stick(scores, open) : torch::softmax(scores.masked_fill(open.logical_not(), -1e30), -1);
  return torch::matmul(p, values).transpose(0, 1).reshape({tokens, -1});
}

// What goes from layer to layer beside the residual stream, and the losses.
struct State {
  Tensor gru, ahead, own;  // of gates
  Tensor logits;           // of the router before, for gating residuals
  Tensor p, v;             // of momentum
  std::vector<Tensor> balance, z, entropy, spread;
};

// Leaves of one tree over experts [begin, end), each [T]: how far it is reached.
inline void reach(const Tensor& decisions, double width, int64_t begin, int64_t end, const Tensor& reached, std::vector<Tensor>& leaves) {
  if (end - begin == 1) {
    leaves.push_back(reached);
    return;
  }
  const int64_t middle = (begin + end) / 2;
  const Tensor t = (decisions.select(1, middle - 1) / width).clamp(-0.5, 0.5), right = 0.5 + 1.5 * t - 2 * t.pow(3);
  reach(decisions, width, begin, middle, reached * (1 - right), leaves);
  reach(decisions, width, middle, end, reached * right, leaves);
}

inline Tensor tree_logits(const spec::RouterRule& rule, const Tensor& decisions, const Tensor& leaf) {
  const int64_t experts = rule.num_experts;
  Tensor sum = torch::zeros({leaf.size(0), experts}, torch::kFloat64);
  for (int64_t tree = 0; tree < rule.experts_per_token; ++tree) {
    std::vector<Tensor> reached;
    const Tensor of_tree = decisions.slice(1, tree * (experts - 1), (tree + 1) * (experts - 1));
    reach(of_tree, rule.gate_step, 0, experts, torch::ones({leaf.size(0)}, torch::kFloat64), reached);
    sum = sum + torch::stack(reached, 1) * leaf.slice(1, tree * experts, (tree + 1) * experts).exp();
  }
  return torch::where(sum > 0, sum.clamp_min(1e-300).log(), torch::full_like(sum, -1e9));
}

// Of a gate that learns nothing: 0 for the chosen, next to nothing for the others.
inline Tensor chosen_logits(const spec::ModelSpec& s, int layer, const Batch& batch) {
  const spec::RouterRule rule = s.router(layer);
  Tensor logits = torch::full({batch.num_tokens(), rule.num_experts}, -1e9, torch::kFloat64);
  const std::vector<int32_t> hashed = moe::hashed_experts(rule, layer, s.vocab_size);
  for (const Segment& segment : batch.segments) {
    for (int i = 0; i < segment.length; ++i) {
      const int t = segment.begin + i, token = batch.tokens_T[static_cast<size_t>(t)];
      std::vector<int32_t> experts(static_cast<size_t>(rule.experts_per_token));
      if (rule.gate == spec::Gate::Random) moe::random_experts(rule, {layer, static_cast<size_t>(i), token, batch.draw}, experts);
      for (size_t k = 0; k < experts.size(); ++k) {
        logits[t][rule.gate == spec::Gate::Random ? experts[k] : hashed[static_cast<size_t>(token) * experts.size() + k]] = 0.0;
      }
    }
  }
  return logits;
}

// For a layer's normed input h.
inline Tensor gate_logits(const Model& m, int layer, const Tensor& h, const Batch& batch, State& state) {
  using spec::Gate;
  const spec::RouterRule& rule = m.spec.moe.router;
  const auto router = [&](int of_layer, const Tensor& x) { return torch::linear(x, m.at(of_layer, "router.weight")); };
  const auto down = [&] { return torch::linear(h, m.at(layer, "router.down.weight")); };
  switch (rule.gate) {
    case Gate::Linear:
      return router(layer, h);
    case Gate::Cosine: {
      const Tensor p = down(), e = m.at(layer, "router.weight");
      const Tensor cosine = torch::matmul(p / p.norm(2, -1, true), (e / e.norm(2, -1, true)).t()) / static_cast<double>(rule.gate_temperature);
      return rule.gate_learns_temperature ? cosine / m.at(layer, "router.temperature").exp() : cosine;
    }
    case Gate::Hash:
    case Gate::Random:
      return chosen_logits(m.spec, layer, batch);
    case Gate::Recurrent: {
      const Tensor x = down();
      if (!state.gru.defined()) state.gru = torch::zeros_like(x);
      state.gru = torch::gru_cell(x, state.gru, m.at("router.gru.input.weight"), m.at("router.gru.state.weight"),
                                  m.at("router.gru.input.bias"), m.at("router.gru.state.bias"));
      return router(layer, state.gru);
    }
    case Gate::Tree:
      return tree_logits(rule, router(layer, h), torch::linear(h, m.at(layer, "router.leaf.weight")));
    case Gate::Ahead: {
      const Tensor logits = state.ahead.defined() ? state.ahead : router(layer, h);
      for (int next = layer + 1; next < m.spec.num_layers; ++next) {
        if (m.spec.feed_forward[static_cast<size_t>(next)] == spec::FeedForward::Dense) continue;
        state.ahead = router(next, h);
        break;
      }
      return logits;
    }
    case Gate::Decoupled:
      return router(layer, state.own);
  }
  return {};
}

struct RouterTerms {
  Tensor mix_TC;  // zero where a choice wasn't made, and for null experts
  Tensor balance, z, entropy, spread;
  moe::Routing routing;
};

inline Tensor activated(spec::LogitActivation activation, const Tensor& x) {
  switch (activation) {
    case spec::LogitActivation::None: return x;
    case spec::LogitActivation::Tanh: return torch::tanh(x);
    case spec::LogitActivation::Sigmoid: return torch::sigmoid(x);
    case spec::LogitActivation::Silu: return torch::silu(x);
  }
  return x;
}

inline Tensor scored(const spec::RouterRule& rule, const Tensor& logits_TC) {
  const Tensor x = activated(rule.logit_activation, logits_TC) / static_cast<double>(rule.temperature);
  return rule.score == spec::Score::Softmax ? torch::softmax(x, -1) : rule.score == spec::Score::Sigmoid ? torch::sigmoid(x) : x;
}

// The choice that the library makes, whose tests are its own: as in training, if experts choose.
inline moe::Routing chosen(const spec::RouterRule& rule, const Tensor& scores, std::span<const float> bias_C, bool in_training) {
  const Tensor single = scores.detach().to(torch::kFloat32).contiguous();
  const std::span<const float> flat{single.data_ptr<float>(), static_cast<size_t>(single.numel())};
  if (in_training && rule.select == spec::Select::ExpertChoice) return moe::choose_tokens(rule, flat).routing;
  return moe::choose_experts(rule, flat, bias_C);
}

inline RouterTerms route(const spec::RouterRule& rule, const Tensor& logits_TC, std::span<const float> bias_C, bool in_training = true) {
  const Tensor scores = scored(rule, logits_TC);
  const moe::Routing routing = chosen(rule, scores, bias_C, in_training);
  Tensor mask = torch::zeros_like(scores), weighed = torch::zeros_like(scores);
  for (int t = 0; t < routing.num_tokens(); ++t) {
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) mask[t][routing.experts_N[n]] = weighed[t][routing.experts_N[n]] = 1.0;
    if (rule.zero_cost_experts() == 0) continue;
    for (int m = routing.zero_cost.begin_T1[t]; m < routing.zero_cost.begin_T1[t + 1]; ++m) {
      const int choice = routing.zero_cost.experts_N[m];
      mask[t][choice] = 1.0;
      weighed[t][choice] = rule.kind_of(choice) == spec::ZeroCost::Null ? 0.0 : 1.0;
    }
  }
  Tensor mix = scores * weighed;
  if (rule.renormalise) mix = mix / mix.sum(-1, true).clamp_min(1e-30);

  const Tensor share = rule.score == spec::Score::Logits ? torch::softmax(scores, -1) : scores / scores.sum(-1, true);
  Tensor busy = mask.sum(0) / mask.sum();
  if (rule.null_experts > 0) {
    Tensor nulls = busy.slice(0, rule.num_experts, rule.num_experts + rule.null_experts);
    nulls.copy_(nulls.mean().expand_as(nulls).clone());
  }
  const double q = rule.select == spec::Select::Tsallis ? double{rule.tsallis_q} : 1;
  const Tensor entropy = q == 1 ? -(share * torch::log(share.clamp_min(1e-300))).sum(-1) : (1 - share.pow(q).sum(-1)) / (q - 1);
  return {mix * static_cast<double>(rule.scale), rule.num_choices() * (busy * share.mean(0)).sum(),
          torch::logsumexp(logits_TC, -1).pow(2).mean(), entropy.mean(),
          -(share.mean(0) * torch::log(share.mean(0).clamp_min(1e-300))).sum(), routing};
}

// What the experts that cost nothing give: their input, or a mix of it and a vector.
inline Tensor zero_cost(const spec::RouterRule& rule, const Tensor& x, const Tensor& mix_TC, const Tensor& constant_mix,
                        const Tensor& constant_vector) {
  Tensor sum = torch::zeros_like(x);
  for (int choice = rule.num_experts; choice < rule.num_choices(); ++choice) {
    const Tensor mix = mix_TC.slice(1, choice, choice + 1);
    if (rule.kind_of(choice) == spec::ZeroCost::Copy) sum = sum + mix * x;
    if (rule.kind_of(choice) != spec::ZeroCost::Constant) continue;
    const int c = choice - rule.first_constant();
    const Tensor a = torch::softmax(torch::linear(x, constant_mix.slice(0, 2 * c, 2 * c + 2)), -1);
    sum = sum + mix * (a.slice(1, 0, 1) * x + a.slice(1, 1, 2) * constant_vector[c]);
  }
  return sum;
}

// Every expert works on every token; the mix makes most of it nothing.
inline Tensor experts(const Tensor& x, const Tensor& mix_TC, const Tensor& gate, const Tensor& up, const Tensor& down) {
  Tensor sum = torch::zeros_like(x);
  for (int64_t e = 0; e < gate.size(0); ++e) {
    sum = sum + mix_TC.slice(1, e, e + 1) * swiglu(x, gate[e], up[e], down[e]);
  }
  return sum;
}

struct Grus {
  Tensor input, state, output, input_bias, state_bias;  // a stack each
};

// A cell over the tokens of each document that chose this expert, one after the other. The first of them is choice number `first`.
inline Tensor gru_experts(const Tensor& x, const Tensor& mix_TC, int first, const moe::Routing& routing,
                          const std::vector<Segment>& segments, const Grus& w) {
  std::vector<Tensor> rows(static_cast<size_t>(x.size(0)), torch::zeros_like(x[0]));
  for (int64_t g = 0; g < w.state.size(0); ++g) {
    const int64_t choice = first + g;
    for (const Segment& segment : segments) {
      Tensor h = torch::zeros({1, w.state.size(-1)}, torch::kFloat64);
      for (int t = segment.begin; t < segment.begin + segment.length; ++t) {
        const auto begin = routing.experts_N.begin() + routing.begin_T1[t], end = routing.experts_N.begin() + routing.begin_T1[t + 1];
        if (std::find(begin, end, choice) == end) continue;
        h = torch::gru_cell(x[t].unsqueeze(0), h, w.input[g], w.state[g], w.input_bias[g], w.state_bias[g]);
        rows[static_cast<size_t>(t)] = rows[static_cast<size_t>(t)] + mix_TC[t][choice] * torch::linear(h, w.output[g])[0];
      }
    }
  }
  return torch::stack(rows);
}

struct Output {
  Tensor logits, loss;
};

// A stack of ternary matrices, whose gradient is the latent ones'.
inline Tensor ternary(const Tensor& latent_EFD) {
  Tensor rounded = latent_EFD.detach().to(torch::kFloat32).clone().contiguous();
  for (int64_t e = 0; e < rounded.size(0); ++e) format::ternarise(flat(rounded[e]), flat(rounded[e]));
  return latent_EFD + (rounded.to(torch::kFloat64) - latent_EFD).detach();
}

// Of a layer's normed input.
inline Tensor moe_block(const Model& m, int layer, const Tensor& x, const Batch& batch, bool in_training, State& state) {
  const spec::MoeSpec& moe = m.spec.moe;
  const spec::RouterRule rule = m.spec.router(layer);
  const auto stack = [&](const char* what) {
    const Tensor& w = m.at(layer, fmt::format("experts.{}.weight", what));
    return moe.ternary_experts ? ternary(w) : w;
  };
  const Tensor gate = stack("gate"), up = stack("up"), down = stack("down");
  const bool has_constants = rule.constant_experts > 0;
  Tensor h = x, sum = torch::zeros_like(x);
  for (int64_t i = 0; i < moe.iterations; ++i) {
    const auto of_iteration = [&](const Tensor& all) { return all.slice(0, i * rule.num_choices(), (i + 1) * rule.num_choices()); };
    std::vector<float> bias;
    if (rule.has_selection_bias) {
      const Tensor values = of_iteration(m.at(layer, "router.bias")).detach().to(torch::kFloat32).contiguous();
      bias.assign(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    }
    Tensor logits = moe.iterations > 1 ? torch::linear(h, of_iteration(m.at(layer, "router.weight"))) : gate_logits(m, layer, h, batch, state);
    if (rule.gating_residual && state.logits.defined()) logits = logits + torch::linear(state.logits, m.at(layer, "router.residual.weight"));
    state.logits = logits;
    const RouterTerms routed = route(rule, logits, bias, in_training);
    state.balance.push_back(routed.balance);
    state.z.push_back(routed.z);
    state.entropy.push_back(routed.entropy);
    state.spread.push_back(routed.spread);
    const Tensor into = moe.expert_width > 0 ? torch::linear(h, m.at(layer, "experts.descend.weight")) : h;
    Tensor y = experts(into, routed.mix_TC, gate, up, down);
    if (moe.gru_experts > 0) {
      const auto weight = [&](const char* name) { return m.at(layer, fmt::format("gru_experts.{}", name)); };
      y = y + gru_experts(into, routed.mix_TC, rule.num_experts - moe.gru_experts, routed.routing, batch.segments,
                          {weight("input.weight"), weight("state.weight"), weight("output.weight"), weight("input.bias"), weight("state.bias")});
    }
    if (moe.expert_width > 0) y = torch::linear(y, m.at(layer, "experts.ascend.weight"));
    y = y + zero_cost(rule, h, routed.mix_TC, has_constants ? m.at(layer, "constants.mix.weight") : Tensor(),
                      has_constants ? m.at(layer, "constants.vector.weight") : Tensor());
    if (moe.output_bias) y = y + m.at(layer, "experts.output_bias");
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
  state.entropy.push_back(routed.entropy);
  state.spread.push_back(routed.spread);
  Tensor chosen_TKE = torch::zeros({tokens, per_token, a.experts->num_experts}, torch::kFloat64);
  for (int64_t n = 0; n < tokens * per_token; ++n) {
    chosen_TKE[n / per_token][n % per_token][routed.routing.experts_N[static_cast<size_t>(n)]] = 1.0;
  }
  const Tensor all_TEQ = torch::einsum("td,eqd->teq", {x, m.at(layer, "attention.experts.query.weight")});
  const Tensor query_TKQ = torch::einsum("tke,teq->tkq", {chosen_TKE, all_TEQ});
  const Tensor query = query_TKQ.reshape({tokens, per_token, kv, group}).permute({0, 2, 1, 3}).reshape({tokens, -1});
  const Tensor mixed = attend(a, m.spec.norm_eps, query, torch::linear(x, m.at(layer, "attention.key.weight")),
                              torch::linear(x, m.at(layer, "attention.value.weight")), query_norm, key_norm, segments);
  const Tensor mixed_TKQ = mixed.reshape({tokens, kv, per_token, group}).permute({0, 2, 1, 3}).reshape({tokens, per_token, -1});
  const Tensor out_TKED = torch::einsum("tkq,edq->tked", {mixed_TKQ, m.at(layer, "attention.experts.output.weight")});
  return torch::einsum("tked,tke,te->td", {out_TKED, chosen_TKE, routed.mix_TC});
}

inline Output forward(const Model& m, const Batch& batch, double balance_weight, double z_weight, double entropy_weight = 0,
                      bool in_training = true, double spread_weight = 0) {
  const spec::ModelSpec& s = m.spec;
  const auto ids = [](const std::vector<int32_t>& values) {
    return torch::tensor(std::vector<int64_t>(values.begin(), values.end()));
  };
  Tensor x = torch::embedding(m.at("embedding.weight"), ids(batch.tokens_T));
  State state;
  const auto attention = [&](int layer, const Tensor& into) {
    const Tensor normed = rms_norm(into, m.at(layer, "attention.norm.weight"), s.norm_eps);
    const auto project = [&](const char* what) {
      return torch::linear(normed, m.at(layer, fmt::format("attention.{}.weight", what)));
    };
    const bool has_norm = s.attention.qk_norm != spec::QkNorm::None;
    const Tensor query_norm = has_norm ? m.at(layer, "attention.query_norm.weight") : Tensor();
    const Tensor key_norm = has_norm ? m.at(layer, "attention.key_norm.weight") : Tensor();
    const Tensor bias = s.attention.output_bias ? m.at(layer, "attention.output.bias") : torch::zeros({1}, torch::kFloat64);
    if (s.attention.experts) return into + bias + attention_experts(m, layer, normed, key_norm, query_norm, batch.segments, state);
    const Tensor attended = attend(s.attention, s.norm_eps, project("query"), project("key"), project("value"), query_norm, key_norm,
                                   batch.segments);
    return into + bias + torch::linear(attended, m.at(layer, "attention.output.weight"));
  };
  if (s.moe.router.gate == spec::Gate::Decoupled) {
    const int own = s.num_layers;
    const Tensor seen = rms_norm(attention(own, x), m.at(own, "feed_forward.norm.weight"), s.norm_eps);
    state.own = torch::silu(torch::linear(seen, m.at(own, "router.down.weight")));
  }
  for (int layer = 0; layer < s.num_layers; ++layer) {
    x = attention(layer, x);
    const Tensor h = rms_norm(x, m.at(layer, "feed_forward.norm.weight"), s.norm_eps);
    if (s.feed_forward[layer] == spec::FeedForward::Dense) {
      x = x + swiglu(h, m.at(layer, "dense.gate.weight"), m.at(layer, "dense.up.weight"),
                     m.at(layer, "dense.down.weight"));
      continue;
    }
    x = x + with_momentum(s.moe.momentum, moe_block(m, layer, h, batch, in_training, state), state);
  }
  const Tensor logits = torch::linear(rms_norm(x, m.at("final_norm.weight"), s.norm_eps),
                                      m.at(s.tied_embeddings ? "embedding.weight" : "head.weight"));
  Tensor loss = torch::nll_loss_nd(torch::log_softmax(logits, -1), ids(batch.targets_T), {},
                                   at::Reduction::Mean, -1);
  if (!state.balance.empty()) {
    loss = loss + balance_weight * torch::stack(state.balance).mean() + z_weight * torch::stack(state.z).mean();
  }
  if (!state.entropy.empty()) loss = loss + entropy_weight * torch::stack(state.entropy).mean();
  if (!state.spread.empty()) loss = loss + spread_weight * torch::stack(state.spread).mean();
  return {logits, loss};
}

}  // namespace moiety::train::reference
