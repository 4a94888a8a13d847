#include "train/router.h"

#include <algorithm>
#include <cmath>

#include "moe/token_rounding.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kTokensATask = 256;

float log_sum_exp(std::span<const float> x) {
  const float largest = *std::ranges::max_element(x);
  float sum = 0;
  for (const float value : x) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

// What one token's chosen scores are multiplied with to become mixing weights.
float mixing_factor(const spec::RouterRule& rule, float sum) {
  return rule.renormalise && sum > 0 ? rule.scale / sum : rule.scale;
}

float chosen_sum(const moe::Routing& routing, std::span<const float> scores_E, size_t t) {
  float sum = 0;
  for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) sum += scores_E[routing.experts_N[n]];
  return sum;
}

void weigh(const spec::RouterRule& rule, MatrixView<const float> scores_TE, moe::Routing& routing) {
  routing.weights_N.resize(routing.experts_N.size());
  for (size_t t = 0; t < scores_TE.rows(); ++t) {
    const float factor = mixing_factor(rule, chosen_sum(routing, scores_TE.row(t), t));
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
      routing.weights_N[n] = scores_TE.row(t)[routing.experts_N[n]] * factor;
    }
  }
}

// Routing of a slice of the tokens; the slices are joined in their order.
moe::Routing route_slice(const spec::RouterRule& rule, MatrixView<const float> logits_TE, std::span<const float> bias_E,
                         MatrixView<float> scores_TE, std::span<float> log_sum_T) {
  const size_t tokens = logits_TE.rows();
  for (size_t t = 0; t < tokens; ++t) {
    log_sum_T[t] = log_sum_exp(logits_TE.row(t));
    std::ranges::copy(logits_TE.row(t), scores_TE.row(t).begin());
    moe::score(rule, scores_TE.row(t));
  }
  moe::Routing routing = moe::choose_experts(rule, scores_TE.flat(), bias_E);
  weigh(rule, scores_TE, routing);
  return routing;
}

void append(const moe::Routing& part, moe::Routing& routing) {
  const int32_t before = routing.num_visits();
  for (int t = 1; t <= part.num_tokens(); ++t) routing.begin_T1.push_back(before + part.begin_T1[t]);
  routing.experts_N.insert(routing.experts_N.end(), part.experts_N.begin(), part.experts_N.end());
  routing.weights_N.insert(routing.weights_N.end(), part.weights_N.begin(), part.weights_N.end());
}

}  // namespace

RouterSaved router_forward(const spec::RouterRule& rule, MatrixView<const float> logits_TE,
                           std::span<const float> bias_E, const Balancing& balancing, int round_tokens) {
  const size_t tokens = logits_TE.rows(), experts = logits_TE.cols();
  RouterSaved saved{.scores_TE = Buffer(tokens, experts), .log_sum_T = std::vector<float>(tokens)};
  std::vector<moe::Routing> slices((tokens + kTokensATask - 1) / kTokensATask);
  parallel_tasks(slices.size(), [&](size_t i) {
    const size_t begin = i * kTokensATask, count = std::min(kTokensATask, tokens - begin);
    slices[i] = route_slice(rule, logits_TE.middle_rows(begin, count), bias_E,
                            saved.scores_TE.view().middle_rows(begin, count),
                            std::span(saved.log_sum_T).subspan(begin, count));
  });
  saved.routing.num_experts = rule.num_experts;
  for (const moe::Routing& slice : slices) append(slice, saved.routing);
  if (round_tokens > 0) {
    saved.routing = moe::round_tokens(saved.routing, saved.scores_TE.view().flat(), round_tokens);
    weigh(rule, saved.scores_TE.view(), saved.routing);
  }

  saved.balance = balance_term(balancing, rule, saved.scores_TE.view(), saved.routing);
  saved.z_loss = z_loss(saved.log_sum_T);
  return saved;
}

void router_backward(const spec::RouterRule& rule, const RouterSaved& saved, MatrixView<const float> logits_TE,
                     std::span<const float> dmix_N, float dbalance, float dz, MatrixView<float> dlogits_TE) {
  const size_t tokens = logits_TE.rows(), experts = logits_TE.cols();
  const moe::Routing& routing = saved.routing;
  parallel_ranges(tokens, [&](size_t first, size_t last, size_t) {
    std::vector<float> dscores_E(experts);
    for (size_t t = first; t < last; ++t) {
      const auto scores = saved.scores_TE.row(t);
      const auto dlogits = dlogits_TE.row(t);
      const int begin = routing.begin_T1[t], end = routing.begin_T1[t + 1];

      std::ranges::fill(dscores_E, 0.0f);
      add_balance_gradient(rule, saved.balance, dbalance, t, scores, dscores_E);

      // Weigh
      const float sum = chosen_sum(routing, scores, t);
      const float factor = mixing_factor(rule, sum);
      float mean = 0;
      if (rule.renormalise && sum > 0) {
        for (int n = begin; n < end; ++n) mean += dmix_N[n] * scores[routing.experts_N[n]] / sum;
      }
      for (int n = begin; n < end; ++n) dscores_E[routing.experts_N[n]] += factor * (dmix_N[n] - mean);

      // Score
      if (rule.score == spec::Score::Sigmoid) {
        for (size_t e = 0; e < experts; ++e) dlogits[e] = dscores_E[e] * scores[e] * (1.0f - scores[e]);
      } else {
        float inner = 0;
        for (size_t e = 0; e < experts; ++e) inner += dscores_E[e] * scores[e];
        for (size_t e = 0; e < experts; ++e) dlogits[e] = scores[e] * (dscores_E[e] - inner);
      }

      add_z_gradient(dz, tokens, saved.log_sum_T[t], logits_TE.row(t), dlogits);
    }
  });
}

}  // namespace moiety::train
