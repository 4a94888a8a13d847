#include "model/gate.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "model/attention.h"
#include "model/elementwise.h"
#include "model/latent_attention.h"
#include "model/moe_layer.h"
#include "model/norm.h"
#include "moe/gate.h"
#include "moe/tree.h"

namespace moiety::model {

using spec::Gate;

namespace {

Matrix<float> copy_of(const Matrix<float>& from) {
  auto to = Matrix<float>::uninitialised(from.rows(), from.cols());
  std::ranges::copy(from.flat(), to.flat().begin());
  return to;
}

}  // namespace

StepGate::StepGate(const kernel::Compute& compute, const spec::ModelSpec& spec, const Weights& weights, const Step& step,
                   MatrixView<const float> x_TD)
    : compute_(compute), spec_(spec), weights_(weights), step_(step), gate_(spec.moe.router.gate) {
  if (spec.has_own_router()) state_TG_ = run_own_router(x_TD);
}

Matrix<float> StepGate::logits(int layer, MatrixView<const float> x_TD) {
  Matrix<float> logits_TE = knows(layer) ? known_logits(layer) : own_logits(layer, x_TD);
  if (spec_.moe.router.gating_residual) add_gating_residual(compute_, this->layer(layer), residual_, logits_TE.view());
  if (gate_ == Gate::Recurrent) state_TG_ = next_state(this->layer(layer), x_TD);
  if (gate_ == Gate::Ahead) {
    ahead_layer_ = layer_after(layer);
    if (ahead_layer_ >= 0) ahead_TE_ = own_logits(ahead_layer_, x_TD);
  }
  return logits_TE;
}

bool StepGate::knows(int layer) const {
  return gate_ == Gate::Decoupled || !spec_.moe.router.is_learnt() || (gate_ == Gate::Ahead && layer == ahead_layer_);
}

Matrix<float> StepGate::known_logits(int layer) const {
  assert(knows(layer));
  if (gate_ == Gate::Decoupled) return with_bias(linear(state_TG_.view(), this->layer(layer).router_ED), layer);
  return gate_ == Gate::Ahead ? copy_of(ahead_TE_) : chosen(layer);
}

Matrix<float> StepGate::likely_logits(int layer, MatrixView<const float> x_TD) const {
  Matrix<float> logits_TE = own_logits(layer, x_TD);
  if (!spec_.moe.router.gating_residual) return logits_TE;
  RouterState residual = residual_;
  add_gating_residual(compute_, this->layer(layer), residual, logits_TE.view());
  return logits_TE;
}

Matrix<float> StepGate::own_logits(int layer, MatrixView<const float> x_TD) const {
  const MoeWeights& w = this->layer(layer);
  if (gate_ == Gate::Cosine) return with_bias(cosine(w, x_TD), layer);
  if (gate_ == Gate::Tree) return with_bias(tree(layer, x_TD), layer);
  if (gate_ == Gate::Recurrent) return with_bias(linear(next_state(w, x_TD).view(), w.router_ED), layer);
  return linear_logits(compute_, spec_.moe, w, 0, x_TD);
}

Matrix<float> StepGate::linear(MatrixView<const float> x, const kernel::WeightView& w) const {
  auto y = Matrix<float>::uninitialised(x.rows(), w.rows);
  kernel::exact_linear(compute_, x, w, y.view());
  return y;
}

Matrix<float> StepGate::with_bias(Matrix<float> logits_TE, int layer) const {
  for (size_t t = 0; t < logits_TE.rows(); ++t) add(this->layer(layer).router_bias_E, logits_TE.row(t));
  return logits_TE;
}

Matrix<float> StepGate::cosine(const MoeWeights& w, MatrixView<const float> x_TD) const {
  const Matrix<float> down_TG = linear(x_TD, w.gate_down);
  Matrix<float> logits_TE = linear(down_TG.view(), w.router_ED);
  for (size_t t = 0; t < logits_TE.rows(); ++t) {
    const float length = std::max(std::sqrt(sum_of_squares(down_TG.row(t))), kLeastLength);
    for (size_t e = 0; e < logits_TE.cols(); ++e) logits_TE.row(t)[e] *= w.cosine_factor_E[e] / length;
  }
  return logits_TE;
}

Matrix<float> StepGate::tree(int layer, MatrixView<const float> x_TD) const {
  const MoeWeights& w = this->layer(layer);
  const Matrix<float> decisions = linear(x_TD, w.router_ED), leaves = linear(x_TD, w.gate_leaf);
  const spec::RouterRule rule = spec_.router(layer);
  auto logits_TE = Matrix<float>::uninitialised(x_TD.rows(), leaves.cols() / static_cast<size_t>(rule.experts_per_token));
  for (size_t t = 0; t < logits_TE.rows(); ++t) {
    moe::tree_logits(rule, decisions.row(t), leaves.row(t), logits_TE.row(t));
  }
  return logits_TE;
}

// Of a gate that learns nothing.
Matrix<float> StepGate::chosen(int layer) const {
  const spec::RouterRule rule = spec_.router(layer);
  const size_t per_token = static_cast<size_t>(rule.experts_per_token);
  auto logits_TE = Matrix<float>::uninitialised(step_.tokens(), static_cast<size_t>(rule.num_experts));
  std::vector<int32_t> experts_K(per_token);
  for (size_t t = 0; t < logits_TE.rows(); ++t) {
    std::span<const int32_t> choice = experts_K;
    if (gate_ == Gate::Hash) {
      choice = std::span(this->layer(layer).hashed_VK).subspan(static_cast<size_t>(step_.token_T[t]) * per_token, per_token);
    } else {
      moe::random_experts(rule, {layer, step_.position_T[t], step_.token_T[t]}, experts_K);
    }
    moe::choose(choice, logits_TE.row(t));
  }
  return logits_TE;
}

// A GRU's (Cho et al. 2014) after this layer, from a projection of what the layer sees and the state after the last one.
Matrix<float> StepGate::next_state(const MoeWeights& w, MatrixView<const float> x_TD) const {
  const RecurrentWeights& gru = weights_.recurrent;
  const size_t width = static_cast<size_t>(spec_.moe.router.gate_width);
  const Matrix<float> down_TG = linear(x_TD, w.gate_down);
  const Matrix<float> in = linear(down_TG.view(), gru.input);
  Matrix<float> out_TG = state_TG_.rows() > 0 ? copy_of(state_TG_) : Matrix<float>(x_TD.rows(), width);
  const Matrix<float> back = linear(out_TG.view(), gru.state);
  compute_.threads.parallel_for(out_TG.rows(), [&](size_t t) {
    const auto at = [&](size_t i) {
      return std::pair(in.row(t)[i] + gru.input_bias[i], back.row(t)[i] + gru.state_bias[i]);
    };
    for (size_t g = 0; g < width; ++g) {
      const auto [reset_in, reset_back] = at(g);
      const auto [update_in, update_back] = at(width + g);
      const auto [new_in, new_back] = at(2 * width + g);
      const float update = sigmoid(update_in + update_back);
      const float candidate = std::tanh(new_in + sigmoid(reset_in + reset_back) * new_back);
      float& state = out_TG.row(t)[g];
      state = (1 - update) * candidate + update * state;
    }
  });
  return out_TG;
}

// One layer of attention over the embeddings, whose keys and values are kept after those of the model's own layers.
Matrix<float> StepGate::run_own_router(MatrixView<const float> x_TD) const {
  const OwnRouterWeights& w = weights_.own_router;
  const kernel::Compute exact = {compute_.kernels, compute_.threads, kernel::Arithmetic::Exact, compute_.packed, nullptr};
  const auto attention_of_kind = spec_.attention.latent ? latent_attention : attention;
  const Matrix<float> attention_in = norm(compute_.threads, x_TD, w.attention.norm, spec_.norm_eps);
  Matrix<float> seen_TD = attention_of_kind(exact, spec_.attention, spec_.norm_eps, w.attention, spec_.num_layers, attention_in.view(), step_);
  compute_.threads.parallel_for(x_TD.rows(), [&](size_t t) {
    for (float& x : seen_TD.row(t)) x *= spec_.residual_scale;
    add(x_TD.row(t), seen_TD.row(t));
  });
  Matrix<float> hidden_TG = linear(norm(compute_.threads, seen_TD.view(), w.norm, spec_.norm_eps).view(), w.down);
  for (float& x : hidden_TG.flat()) x *= sigmoid(x);
  return hidden_TG;
}

int StepGate::layer_after(int layer) const {
  for (int next = layer + 1; next < spec_.num_layers; ++next) {
    if (spec_.feed_forward[static_cast<size_t>(next)] == spec::FeedForward::Moe) return next;
  }
  return -1;
}

}  // namespace moiety::model
