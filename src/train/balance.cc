#include "train/balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moe/entropy.h"
#include "train/loops.h"
#include "train/parallel.h"
#include "train/router_stages.h"

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

// Visits of each choice by some tokens. It is no matter which of the null experts one takes.
void count_visits(const spec::RouterRule& rule, const moe::Routing& routing, size_t first, size_t count, std::span<double> visits_C) {
  for (int32_t n = routing.begin_T1[first]; n < routing.begin_T1[first + count]; ++n) ++visits_C[routing.experts_N[n]];
  if (rule.zero_cost_experts() == 0) return;
  const moe::Visits& free = routing.zero_cost;
  for (int32_t m = free.begin_T1[first]; m < free.begin_T1[first + count]; ++m) ++visits_C[free.experts_N[m]];
  const auto nulls = visits_C.subspan(static_cast<size_t>(rule.num_experts), static_cast<size_t>(rule.null_experts));
  const double sum = std::accumulate(nulls.begin(), nulls.end(), 0.0);
  for (double& visits : nulls) visits = sum / static_cast<double>(nulls.size());
}

// Visits become those of all ranks' tokens; returns the mean of what is wanted over these. One exchange for both.
std::vector<double> sum_up(const SumOverRanks& sum_over_ranks, std::span<const double> wanted_E, size_t tokens, std::span<double> visits_E) {
  std::vector<double> all(wanted_E.begin(), wanted_E.end());
  all.push_back(static_cast<double>(tokens));
  all.insert(all.end(), visits_E.begin(), visits_E.end());
  if (sum_over_ranks) sum_over_ranks(all);
  std::ranges::copy(std::span(all).last(visits_E.size()), visits_E.begin());
  const double of_all = std::max(1.0, all[wanted_E.size()]);
  all.resize(wanted_E.size());
  for (double& wanted : all) wanted /= of_all;
  return all;
}

// Of the entropy that the loss is made of.
float entropy_index(const spec::RouterRule& rule) { return rule.select == spec::Select::Tsallis ? rule.tsallis_q : 1; }

}  // namespace

BalanceTerm balance_term(const Balancing& balancing, const spec::RouterRule& rule, MatrixView<const float> scores_TE,
                         const moe::Routing& routing) {
  const size_t tokens = scores_TE.rows(), experts = scores_TE.cols();
  const bool by_sequence = balancing.scope == BalanceScope::Sequence && balancing.sequence > 0;
  // A rank without tokens sums with the others all the same.
  const size_t group = std::max<size_t>(1, by_sequence ? balancing.sequence : tokens), groups = by_sequence ? (tokens + group - 1) / group : 1;
  BalanceTerm term{.group_tokens = group, .slope_GE = Matrix<float>(groups, experts), .wanted_E = std::vector<double>(experts, 0)};
  double loss = 0;
  for (size_t g = 0; g < groups; ++g) {
    const size_t first = g * group, count = std::min(group, tokens - first);

    // How often each expert is visited, and how much it is wanted
    std::vector<double> visits_E(experts, 0);
    if (balancing.scope != BalanceScope::Sequence) std::ranges::copy(balancing.others_E.first(std::min(experts, balancing.others_E.size())), visits_E.begin());
    count_visits(rule, routing, first, count, visits_E);
    const std::vector<double> wanted_E = sum_over_tokens(first, count, experts, [&](size_t t, std::span<double> sum_E) {
      thread_local std::vector<float> share_E;
      share_E.resize(experts);
      shares_of(rule, scores_TE.row(t), share_E);
      for (size_t e = 0; e < experts; ++e) sum_E[e] += share_E[e];
    });
    if (balancing.scope != BalanceScope::Sequence) term.mean_E = sum_up(balancing.sum_over_ranks, wanted_E, tokens, visits_E);
    const double visits = std::accumulate(visits_E.begin(), visits_E.end(), 0.0);

    for (size_t e = 0; e < experts; ++e) {
      term.wanted_E[e] += wanted_E[e];
      if (visits == 0) continue;
      const double weight = e < static_cast<size_t>(rule.num_experts) ? 1 : double{balancing.zero_cost};
      const double slope = weight * static_cast<double>(experts) * visits_E[e] / (visits * static_cast<double>(std::max<size_t>(1, tokens)));
      term.slope_GE.row(g)[e] = static_cast<float>(slope);
      loss += slope * wanted_E[e];
    }
  }
  term.loss = static_cast<float>(loss);
  if (balancing.scope == BalanceScope::Sequence) term.mean_E = sum_up(balancing.sum_over_ranks, term.wanted_E, tokens, {});
  return term;
}

namespace {

// Adds d times the gradient of the sum of slope * probability.
void add_slopes(const spec::RouterRule& rule, std::span<const float> slope_E, float d, std::span<const float> scores_E,
                std::span<float> dscores_E) {
  if (d == 0) return;
  if (rule.score == spec::Score::Softmax) return add_scaled(d, slope_E, dscores_E);  // shares are the scores
  std::vector<float> share_E(scores_E.size()), dshare_E(scores_E.size());
  shares_of(rule, scores_E, share_E);
  for (size_t e = 0; e < share_E.size(); ++e) dshare_E[e] = d * slope_E[e];
  shares_backward(rule, scores_E, share_E, dshare_E, dscores_E);
}

}  // namespace

void add_balance_gradient(const spec::RouterRule& rule, const BalanceTerm& term, float dloss, size_t t,
                          std::span<const float> scores_E, std::span<float> dscores_E) {
  add_slopes(rule, term.slope_GE.row(t / term.group_tokens), dloss, scores_E, dscores_E);
}

SpreadTerm spread_term(std::span<const double> mean_E, size_t tokens) {
  SpreadTerm term;
  double loss = 0;
  for (double mean : mean_E) {
    mean = std::max(mean, 1e-12);  // whose slope is finite
    loss -= mean * std::log(mean);
    term.slope_E.push_back(static_cast<float>(-(std::log(mean) + 1) / static_cast<double>(std::max<size_t>(1, tokens))));
  }
  term.loss = static_cast<float>(loss);
  return term;
}

void add_spread_gradient(const spec::RouterRule& rule, const SpreadTerm& term, float dloss, std::span<const float> scores_E,
                         std::span<float> dscores_E) {
  add_slopes(rule, term.slope_E, dloss, scores_E, dscores_E);
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

float entropy_loss(const spec::RouterRule& rule, MatrixView<const float> scores_TC) {
  const double sum = sum_over_tokens(0, scores_TC.rows(), 1, [&](size_t t, std::span<double> total) {
    std::vector<float> share_C(scores_TC.cols());
    shares_of(rule, scores_TC.row(t), share_C);
    total[0] += moe::entropy(entropy_index(rule), share_C);
  })[0];
  return static_cast<float>(sum / static_cast<double>(std::max<size_t>(1, scores_TC.rows())));
}

void add_entropy_gradient(const spec::RouterRule& rule, float dloss, size_t tokens, std::span<const float> scores_C,
                          std::span<float> dscores_C) {
  if (dloss == 0) return;
  std::vector<float> share_C(scores_C.size()), dshare_C(scores_C.size());
  shares_of(rule, scores_C, share_C);
  for (size_t c = 0; c < share_C.size(); ++c) {
    dshare_C[c] = dloss / static_cast<float>(tokens) * moe::entropy_slope(entropy_index(rule), share_C[c]);
  }
  shares_backward(rule, scores_C, share_C, dshare_C, dscores_C);
}

double router_entropy(const spec::RouterRule& rule, MatrixView<const float> scores_TE) {
  if (scores_TE.rows() == 0 || scores_TE.cols() < 2) return 0;
  const double sum = sum_over_tokens(0, scores_TE.rows(), 1, [&](size_t t, std::span<double> total) {
    std::vector<float> share_E(scores_TE.cols());
    shares_of(rule, scores_TE.row(t), share_E);
    total[0] += moe::entropy(1, share_E);
  })[0];
  return sum / static_cast<double>(scores_TE.rows()) / std::log(static_cast<double>(scores_TE.cols()));
}

}  // namespace moiety::train
