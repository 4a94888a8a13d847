// For tests: a model's weights as torch leaves, and the whole forward pass once more in plain torch operations, slow and
// in double precision. What it shares with the fast one is the ModelSpec and moe::choose_experts.
#pragma once

#include <map>
#include <string>

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

// What gates hand from layer to layer.
struct GateState {
  Tensor gru, ahead, own;
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
inline Tensor gate_logits(const Model& m, int layer, const Tensor& h, const Batch& batch, GateState& state) {
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
  Tensor balance, z, entropy;
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
          torch::logsumexp(logits_TC, -1).pow(2).mean(), entropy.mean()};
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

struct Output {
  Tensor logits, loss;
};

inline Output forward(const Model& m, const Batch& batch, double balance_weight, double z_weight, double entropy_weight = 0,
                      bool in_training = true) {
  const spec::ModelSpec& s = m.spec;
  const auto ids = [](const std::vector<int32_t>& values) {
    return torch::tensor(std::vector<int64_t>(values.begin(), values.end()));
  };
  Tensor x = torch::embedding(m.at("embedding.weight"), ids(batch.tokens_T));
  std::vector<Tensor> balance, z, entropy;
  Tensor logits_before;
  const auto attention = [&](int layer, const Tensor& into) {
    const Tensor normed = rms_norm(into, m.at(layer, "attention.norm.weight"), s.norm_eps);
    const auto project = [&](const char* what) {
      return torch::linear(normed, m.at(layer, fmt::format("attention.{}.weight", what)));
    };
    const bool has_norm = s.attention.qk_norm != spec::QkNorm::None;
    const Tensor attended = attend(s.attention, s.norm_eps, project("query"), project("key"), project("value"),
                                   has_norm ? m.at(layer, "attention.query_norm.weight") : Tensor(),
                                   has_norm ? m.at(layer, "attention.key_norm.weight") : Tensor(), batch.segments);
    return into + torch::linear(attended, m.at(layer, "attention.output.weight"));
  };
  GateState state;
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
    std::vector<float> bias;
    if (s.moe.router.has_selection_bias) {
      const Tensor values = m.at(layer, "router.bias").detach().to(torch::kFloat32);
      bias.assign(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    }
    const spec::RouterRule& rule = s.moe.router;
    Tensor router_logits = gate_logits(m, layer, h, batch, state);
    if (rule.gating_residual && logits_before.defined()) {
      router_logits = router_logits + torch::linear(logits_before, m.at(layer, "router.residual.weight"));
    }
    logits_before = router_logits;
    const RouterTerms routed = route(rule, router_logits, bias, in_training);
    balance.push_back(routed.balance);
    z.push_back(routed.z);
    entropy.push_back(routed.entropy);
    const bool has_constants = rule.constant_experts > 0;
    x = x + zero_cost(rule, h, routed.mix_TC, has_constants ? m.at(layer, "constants.mix.weight") : Tensor(),
                      has_constants ? m.at(layer, "constants.vector.weight") : Tensor());
    x = x + experts(h, routed.mix_TC, m.at(layer, "experts.gate.weight"), m.at(layer, "experts.up.weight"),
                    m.at(layer, "experts.down.weight"));
    if (s.moe.shared_hidden > 0) {
      Tensor shared = swiglu(h, m.at(layer, "shared.gate.weight"), m.at(layer, "shared.up.weight"),
                             m.at(layer, "shared.down.weight"));
      if (s.moe.shared_gate) shared = shared * torch::sigmoid(torch::linear(h, m.at(layer, "shared.scale.weight")));
      x = x + shared;
    }
  }
  const Tensor logits = torch::linear(rms_norm(x, m.at("final_norm.weight"), s.norm_eps),
                                      m.at(s.tied_embeddings ? "embedding.weight" : "head.weight"));
  Tensor loss = torch::nll_loss_nd(torch::log_softmax(logits, -1), ids(batch.targets_T), {},
                                   at::Reduction::Mean, -1);
  if (!balance.empty()) {
    loss = loss + balance_weight * torch::stack(balance).mean() + z_weight * torch::stack(z).mean() +
           entropy_weight * torch::stack(entropy).mean();
  }
  return {logits, loss};
}

}  // namespace moiety::train::reference
