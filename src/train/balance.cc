#include "train/balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kTokensATask = 256;

// Sums over `tokens` tokens from `first` on of what `body(t, sum_E)` adds: taken in pieces that don't depend on the number of
// threads, which are joined in their order.
template <class Body>
std::vector<double> sum_over_tokens(size_t first, size_t tokens, size_t width, const Body& body) {
  Matrix<double> parts((tokens + kTokensATask - 1) / kTokensATask, width);
  parallel_tasks(parts.rows(), [&](size_t i) {
    const size_t begin = i * kTokensATask, end = std::min(tokens, begin + kTokensATask);
    for (size_t t = begin; t < end; ++t) body(first + t, parts.row(i));
  });
  std::vector<double> sum(width, 0);
  for (size_t i = 0; i < parts.rows(); ++i) {
    for (size_t e = 0; e < width; ++e) sum[e] += parts.row(i)[e];
  }
  return sum;
}

}  // namespace

float probability_factor(const spec::RouterRule& rule, std::span<const float> scores_E) {
  if (rule.score == spec::Score::Softmax) return 1.0f;
  const float sum = std::accumulate(scores_E.begin(), scores_E.end(), 0.0f);
  return sum > 0 ? 1.0f / sum : 0.0f;
}

BalanceTerm balance_term(const Balancing& balancing, const spec::RouterRule& rule, MatrixView<const float> scores_TE,
                         const moe::Routing& routing) {
  const size_t tokens = scores_TE.rows(), experts = scores_TE.cols();
  const bool by_sequence = balancing.scope == BalanceScope::Sequence && balancing.sequence > 0;
  const size_t group = std::max<size_t>(1, by_sequence ? balancing.sequence : tokens), groups = (tokens + group - 1) / group;
  BalanceTerm term{.group_tokens = group, .slope_GE = Matrix<float>(groups, experts), .wanted_E = std::vector<double>(experts, 0)};
  double loss = 0;
  for (size_t g = 0; g < groups; ++g) {
    const size_t first = g * group, count = std::min(group, tokens - first);

    // How often each expert is visited
    std::vector<int64_t> visits_E(experts, 0);
    if (balancing.scope != BalanceScope::Sequence) std::ranges::copy(balancing.others_E.first(std::min(experts, balancing.others_E.size())), visits_E.begin());
    for (int32_t n = routing.begin_T1[first]; n < routing.begin_T1[first + count]; ++n) ++visits_E[routing.experts_N[n]];
    const double visits = static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));

    // How much it is wanted
    const std::vector<double> wanted_E = sum_over_tokens(first, count, experts, [&](size_t t, std::span<double> sum_E) {
      const auto scores_E = scores_TE.row(t);
      const float factor = probability_factor(rule, scores_E);
      for (size_t e = 0; e < experts; ++e) sum_E[e] += factor * scores_E[e];
    });

    for (size_t e = 0; e < experts; ++e) {
      term.wanted_E[e] += wanted_E[e];
      if (visits == 0) continue;
      const double slope = static_cast<double>(experts) * static_cast<double>(visits_E[e]) / (visits * static_cast<double>(tokens));
      term.slope_GE.row(g)[e] = static_cast<float>(slope);
      loss += slope * wanted_E[e];
    }
  }
  term.loss = static_cast<float>(loss);
  return term;
}

void add_balance_gradient(const spec::RouterRule& rule, const BalanceTerm& term, float dloss, size_t t,
                          std::span<const float> scores_E, std::span<float> dscores_E) {
  if (dloss == 0) return;
  const auto slope_E = term.slope_GE.row(t / term.group_tokens);
  const float factor = probability_factor(rule, scores_E);
  // Scores that already sum to one are the probabilities; others are divided by their sum.
  float along = 0;
  if (rule.score != spec::Score::Softmax) {
    for (size_t e = 0; e < scores_E.size(); ++e) along += slope_E[e] * scores_E[e] * factor;
  }
  for (size_t e = 0; e < scores_E.size(); ++e) dscores_E[e] += dloss * (slope_E[e] - along) * factor;
}

double balance_of_sums(std::span<const int64_t> visits_E, std::span<const double> wanted_E, double tokens) {
  double visits = 0, product = 0;
  for (size_t e = 0; e < visits_E.size(); ++e) {
    visits += static_cast<double>(visits_E[e]);
    product += static_cast<double>(visits_E[e]) * wanted_E[e];
  }
  return visits == 0 ? 0 : static_cast<double>(visits_E.size()) * product / (visits * tokens);
}

float z_loss(std::span<const float> log_sum_T) {
  double sum = 0;
  for (const float log_sum : log_sum_T) sum += static_cast<double>(log_sum) * log_sum;
  return static_cast<float>(sum / static_cast<double>(std::max<size_t>(1, log_sum_T.size())));
}

void add_z_gradient(float dloss, size_t tokens, float log_sum, std::span<const float> logits_E, std::span<float> dlogits_E) {
  if (dloss == 0) return;
  const float slope = dloss * 2.0f * log_sum / static_cast<float>(tokens);
  for (size_t e = 0; e < logits_E.size(); ++e) dlogits_E[e] += slope * std::exp(logits_E[e] - log_sum);
}

double router_entropy(const spec::RouterRule& rule, MatrixView<const float> scores_TE) {
  if (scores_TE.rows() == 0 || scores_TE.cols() < 2) return 0;
  const double sum = sum_over_tokens(0, scores_TE.rows(), 1, [&](size_t t, std::span<double> total) {
    const auto scores_E = scores_TE.row(t);
    const double factor = probability_factor(rule, scores_E);
    for (const float score : scores_E) {
      const double p = factor * score;
      if (p > 0) total[0] -= p * std::log(p);
    }
  })[0];
  return sum / static_cast<double>(scores_TE.rows()) / std::log(static_cast<double>(scores_TE.cols()));
}

}  // namespace moiety::train
