#include "train/gate.h"

#include <algorithm>
#include <cmath>

#include "moe/gate.h"
#include "moe/tree.h"
#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

using spec::Gate;
using spec::Role;

constexpr float kLeastLength = 1e-6f;  // as in model/weights.h

Tensor matrix(size_t rows, size_t cols) {
  return torch::empty({static_cast<int64_t>(rows), static_cast<int64_t>(cols)}, torch::kFloat32);
}

float length_of(std::span<const float> x) { return std::max(std::sqrt(dot(x, x)), kLeastLength); }

// Every row of x with length 1.
void unit_rows(MatrixView<const float> x, MatrixView<float> unit) {
  parallel_ranges(x.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) {
      const float length = length_of(x.row(r));
      for (size_t i = 0; i < x.cols(); ++i) unit.row(r)[i] = x.row(r)[i] / length;
    }
  });
}

// dx += what the gradient of its unit vector does to it: what turns it, not what makes it longer.
void unit_backward(std::span<const float> x, std::span<const float> unit, std::span<const float> dunit, std::span<float> dx) {
  const float along = dot(unit, dunit), length = length_of(x);
  for (size_t i = 0; i < x.size(); ++i) dx[i] += (dunit[i] - unit[i] * along) / length;
}

// to += sums of columns. Each thread owns some of them, so that they are added up in the same order in every run.
void add_column_sums(MatrixView<const float> from, std::span<float> to) {
  parallel_ranges(from.cols(), [&](size_t begin, size_t end, size_t) {
    for (size_t r = 0; r < from.rows(); ++r) {
      for (size_t c = begin; c < end; ++c) to[c] += from.row(r)[c];
    }
  });
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

Tensor cosine_logits(const spec::RouterRule& rule, const Tensor& down_TG, const WeightMatrix& router_EG,
                     const std::optional<WeightVector>& temperature) {
  const size_t experts = router_EG.value.rows(), width = router_EG.value.cols();
  const Tensor unit_TG = torch::empty_like(down_TG), unit_EG = matrix(experts, width);
  const Tensor logits_TE = matrix(view(down_TG).rows(), experts);
  unit_rows(view(down_TG), view(unit_TG));
  unit_rows(router_EG.value, view(unit_EG));
  const float sharpness = (temperature ? std::exp(-temperature->value[0]) : 1.0f) / rule.gate_temperature;
  multiply_nt(GemmType::F32, view(unit_TG), view(unit_EG), view(logits_TE));
  scale(sharpness, flat(logits_TE));

  return record({down_TG}, {logits_TE}, [=](const tensor_list& dlogits) -> tensor_list {
    const Tensor dunit_TG = torch::empty_like(unit_TG), dunit_EG = torch::empty_like(unit_EG), ddown_TG = torch::zeros_like(down_TG);
    const Tensor dcosine_TE = dlogits[0] * sharpness;
    multiply_nn(GemmType::F32, view(dcosine_TE), view(unit_EG), view(dunit_TG));
    multiply_tn(GemmType::F32, view(dcosine_TE), view(unit_TG), view(dunit_EG), Into::Overwrite);
    parallel_ranges(view(down_TG).rows(), [&](size_t begin, size_t end, size_t) {
      for (size_t t = begin; t < end; ++t) {
        unit_backward(view(down_TG).row(t), view(unit_TG).row(t), view(dunit_TG).row(t), view(ddown_TG).row(t));
      }
    });
    for (size_t e = 0; e < experts; ++e) {
      unit_backward(router_EG.value.row(e), view(unit_EG).row(e), view(dunit_EG).row(e), router_EG.gradient.row(e));
      if (temperature) temperature->gradient[0] -= dot(view(unit_EG).row(e), view(dunit_EG).row(e));
    }
    return {ddown_TG};
  })[0];
}

Tensor gru_step(const Tensor& in_T3G, const Tensor& back_T3G, const Tensor& state_TG, const WeightVector& input_bias,
                const WeightVector& state_bias) {
  const size_t tokens = view(state_TG).rows(), width = view(state_TG).cols();
  const Tensor next_TG = torch::empty_like(state_TG), gates_T3G = torch::empty_like(in_T3G);  // reset, update, candidate
  parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      const auto in = view(in_T3G).row(t), back = view(back_T3G).row(t), gates = view(gates_T3G).row(t);
      const auto from_input = [&](size_t i) { return in[i] + input_bias.value[i]; };
      const auto from_state = [&](size_t i) { return back[i] + state_bias.value[i]; };
      for (size_t g = 0; g < width; ++g) {
        const float reset = gates[g] = sigmoid(from_input(g) + from_state(g));
        const float update = gates[width + g] = sigmoid(from_input(width + g) + from_state(width + g));
        const float candidate = gates[2 * width + g] = std::tanh(from_input(2 * width + g) + reset * from_state(2 * width + g));
        view(next_TG).row(t)[g] = (1 - update) * candidate + update * view(state_TG).row(t)[g];
      }
    }
  });

  return record({in_T3G, back_T3G, state_TG}, {next_TG}, [=](const tensor_list& dnext) -> tensor_list {
    const Tensor din = torch::empty_like(in_T3G), dback = torch::empty_like(back_T3G), dstate = torch::empty_like(state_TG);
    parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
      for (size_t t = begin; t < end; ++t) {
        const auto gates = view(gates_T3G).row(t), d = view(dnext[0]).row(t), din_3G = view(din).row(t), dback_3G = view(dback).row(t);
        for (size_t g = 0; g < width; ++g) {
          const float reset = gates[g], update = gates[width + g], candidate = gates[2 * width + g];
          const float dcandidate = d[g] * (1 - update) * (1 - candidate * candidate);
          const float dupdate = d[g] * (view(state_TG).row(t)[g] - candidate) * update * (1 - update);
          const float from_state = view(back_T3G).row(t)[2 * width + g] + state_bias.value[2 * width + g];
          din_3G[g] = dback_3G[g] = dcandidate * from_state * reset * (1 - reset);
          din_3G[width + g] = dback_3G[width + g] = dupdate;
          din_3G[2 * width + g] = dcandidate;
          dback_3G[2 * width + g] = dcandidate * reset;
          view(dstate).row(t)[g] = d[g] * update;
        }
      }
    });
    add_column_sums(view(din), input_bias.gradient);
    add_column_sums(view(dback), state_bias.gradient);
    return {din, dback, dstate};
  })[0];
}

Tensor tree_logits(const spec::RouterRule& rule, const Tensor& decisions, const Tensor& leaves) {
  const size_t tokens = view(leaves).rows(), experts = view(leaves).cols() / static_cast<size_t>(rule.experts_per_token);
  const Tensor logits_TE = matrix(tokens, experts);
  parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) moe::tree_logits(rule, view(decisions).row(t), view(leaves).row(t), view(logits_TE).row(t));
  });
  return record({decisions, leaves}, {logits_TE}, [=](const tensor_list& dlogits) -> tensor_list {
    const Tensor ddecisions = torch::empty_like(decisions), dleaves = torch::empty_like(leaves);
    parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
      for (size_t t = begin; t < end; ++t) {
        moe::tree_logits_backward(rule, view(decisions).row(t), view(leaves).row(t), view(logits_TE).row(t), view(dlogits[0]).row(t),
                                  view(ddecisions).row(t), view(dleaves).row(t));
      }
    });
    return {ddecisions, dleaves};
  })[0];
}

void Gates::begin(const Batch& batch, State came) {
  state_ = std::move(came);
  token_T_ = batch.tokens_T;
  position_T_.assign(token_T_.size(), 0);
  for (const Segment& segment : batch.segments) {
    for (int i = 0; i < segment.length; ++i) position_T_[static_cast<size_t>(segment.begin + i)] = static_cast<size_t>(segment.position + i);
  }
  draw_ = batch.draw;
}

Tensor Gates::own_router(const Tensor& seen_TD) {
  const Tensor normed_TD = rms_norm(seen_TD, weights_.vector(Role::FeedForwardNorm, spec_.num_layers), spec_.norm_eps);
  return torch::silu(linear(normed_TD, weights_.matrix(Role::GateDown, spec_.num_layers)));
}

Tensor Gates::linear_logits(int layer, const Tensor& x, bool trained) {
  WeightMatrix router = weights_.matrix(Role::Router, layer);
  if (!trained) router.gradient = {};
  return linear(x, router);
}

Tensor Gates::logits(int layer, const Tensor& x_TD, bool trained) {
  switch (spec_.moe.router.gate) {
    case Gate::Linear:
      return linear_logits(layer, x_TD, trained);
    case Gate::Cosine:
      return cosine(layer, x_TD);
    case Gate::Hash:
    case Gate::Random:
      return chosen(layer);
    case Gate::Recurrent:
      return recurrent(layer, x_TD);
    case Gate::Tree:
      return tree_logits(spec_.router(layer), linear_logits(layer, x_TD), linear(x_TD, weights_.matrix(Role::GateLeaf, layer)));
    case Gate::Ahead:
      return ahead(layer, x_TD);
    case Gate::Decoupled:
      return linear_logits(layer, state_.state_TG);
  }
  return {};
}

Tensor Gates::cosine(int layer, const Tensor& x_TD) {
  const spec::RouterRule& rule = spec_.moe.router;
  std::optional<WeightVector> temperature;
  if (rule.gate_learns_temperature) temperature = weights_.vector(Role::GateTemperature, layer);
  return cosine_logits(rule, linear(x_TD, weights_.matrix(Role::GateDown, layer)), weights_.matrix(Role::Router, layer), temperature);
}

Tensor Gates::recurrent(int layer, const Tensor& x_TD) {
  const Tensor down_TG = linear(x_TD, weights_.matrix(Role::GateDown, layer));
  if (!state_.state_TG.defined()) state_.state_TG = torch::zeros_like(down_TG);
  state_.state_TG = gru_step(linear(down_TG, weights_.matrix(Role::GruInput)), linear(state_.state_TG, weights_.matrix(Role::GruState)), state_.state_TG,
                       weights_.vector(Role::GruInputBias), weights_.vector(Role::GruStateBias));
  return linear_logits(layer, state_.state_TG);
}

// What was made of the input of the layer before; and the same for the next one.
Tensor Gates::ahead(int layer, const Tensor& x_TD) {
  const Tensor logits_TE = state_.ahead_TE.defined() ? state_.ahead_TE : linear_logits(layer, x_TD);
  int next = layer + 1;
  while (next < spec_.num_layers && spec_.feed_forward[static_cast<size_t>(next)] != spec::FeedForward::Moe) ++next;
  state_.ahead_TE = next < spec_.num_layers ? linear_logits(next, x_TD) : Tensor();
  return logits_TE;
}

Tensor Gates::chosen(int layer) {
  const spec::RouterRule rule = spec_.router(layer);
  const size_t per_token = static_cast<size_t>(rule.experts_per_token);
  const Tensor logits_TE = matrix(token_T_.size(), static_cast<size_t>(rule.num_experts));
  std::vector<int32_t>& hashed_VK = hashed_[layer];
  if (rule.gate == Gate::Hash && hashed_VK.empty()) hashed_VK = moe::hashed_experts(rule, layer, spec_.vocab_size);
  std::vector<int32_t> experts_K(per_token);
  for (size_t t = 0; t < token_T_.size(); ++t) {
    std::span<const int32_t> choice = experts_K;
    if (rule.gate == Gate::Hash) {
      choice = std::span(hashed_VK).subspan(static_cast<size_t>(token_T_[t]) * per_token, per_token);
    } else {
      moe::random_experts(rule, {layer, position_T_[t], token_T_[t], draw_}, experts_K);
    }
    moe::choose(choice, view(logits_TE).row(t));
  }
  return logits_TE;
}

}  // namespace moiety::train
