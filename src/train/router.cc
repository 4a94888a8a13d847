#include "train/router.h"

#include <algorithm>
#include <cmath>

#include "moe/expert_choice.h"
#include "moe/token_rounding.h"
#include "train/parallel.h"
#include "train/router_stages.h"
#include "train/sparse_mixer.h"

namespace moiety::train {
namespace {

using spec::RouterRule;

constexpr size_t kTokensATask = 256;

float log_sum_exp(std::span<const float> x) {
  const float largest = *std::ranges::max_element(x);
  float sum = 0;
  for (const float value : x) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

bool draws(const RouterRule& rule, const Choosing& choosing) {
  return choosing.in_training && rule.weigh == spec::Weigh::SparseMixer;
}
bool experts_choose(const RouterRule& rule, const Choosing& choosing) {
  return choosing.in_training && rule.select == spec::Select::ExpertChoice;
}

// Select and weigh, of the tokens from `first` on.
moe::Routing choose_slice(const RouterRule& rule, MatrixView<const float> scores_TC, std::span<const float> bias_C,
                          const Choosing& choosing, size_t first) {
  if (draws(rule, choosing)) {
    moe::Routing routing{.num_experts = rule.num_experts};
    for (size_t t = 0; t < scores_TC.rows(); ++t) {
      Random random(choosing.chance, choosing.layer, (first + t) * 2 * static_cast<size_t>(rule.experts_per_token));
      draw_experts(rule, scores_TC.row(t), random, routing);
    }
    return routing;
  }
  moe::Routing routing = moe::choose_experts(rule, scores_TC.flat(), bias_C);
  moe::weigh(rule, scores_TC.flat(), routing);
  return routing;
}

std::shared_ptr<const moe::LayerPlan> plan_of(moe::Routing routing, double capacity) {
  const auto plan = std::make_shared<moe::LayerPlan>();
  plan->routing = std::move(routing);
  const int visits = plan->routing.num_visits(), experts = plan->routing.num_experts;
  plan->dispatch = capacity == 0 ? moe::plan_dispatch(plan->routing)
                                 : moe::plan_dispatch(plan->routing, moe::expert_capacity(capacity, visits, experts));
  return plan;
}

}  // namespace

RouterSaved router_forward(const RouterRule& rule, MatrixView<const float> logits_TC, std::span<const float> bias_C,
                           const RouteOrder& order) {
  const size_t tokens = logits_TC.rows(), choices = logits_TC.cols();
  const Choosing& choosing = order.choosing;
  RouterSaved saved{.rule = rule, .scores_TC = Buffer(tokens, choices), .log_sum_T = std::vector<float>(tokens),
                    .was_drawn = draws(rule, choosing)};
  const MatrixView<float> scores_TC = saved.scores_TC.view();

  // Score; select and weigh, where tokens choose by themselves
  std::vector<moe::Routing> slices((tokens + kTokensATask - 1) / kTokensATask);
  parallel_tasks(slices.size(), [&](size_t i) {
    const size_t begin = i * kTokensATask, count = std::min(kTokensATask, tokens - begin);
    for (size_t t = begin; t < begin + count; ++t) {
      saved.log_sum_T[t] = log_sum_exp(logits_TC.row(t));
      std::ranges::copy(logits_TC.row(t), scores_TC.row(t).begin());
      moe::score(rule, scores_TC.row(t));
    }
    if (order.decided || experts_choose(rule, choosing)) return;
    slices[i] = choose_slice(rule, scores_TC.middle_rows(begin, count), bias_C, choosing, choosing.first_token + begin);
  });

  if (order.decided) {
    saved.plan = order.decided;
  } else if (experts_choose(rule, choosing)) {
    moe::ExpertChoice choice = moe::choose_tokens(rule, scores_TC.flat());
    moe::weigh(rule, scores_TC.flat(), choice.routing);
    saved.cut_off_E = std::move(choice.cut_off_E);
    saved.plan = plan_of(std::move(choice.routing), order.capacity);
  } else {
    moe::Routing routing{.num_experts = rule.num_experts};
    for (const moe::Routing& slice : slices) moe::append(slice, routing);
    if (order.round_tokens > 0) {
      routing = moe::round_tokens(routing, scores_TC.flat(), order.round_tokens);
      moe::weigh(rule, scores_TC.flat(), routing);
    }
    saved.plan = plan_of(std::move(routing), order.capacity);
  }

  saved.balance = balance_term(order.balancing, rule, scores_TC, saved.plan->routing);
  saved.spread = spread_term(saved.balance.mean_E, tokens);
  saved.z_loss = z_loss(saved.log_sum_T);
  if (order.balancing.with_entropy) saved.entropy_loss = entropy_loss(rule, scores_TC);
  return saved;
}

void router_backward(const RouterRule& rule, const RouterSaved& saved, MatrixView<const float> logits_TC,
                     const RouterGradients& d, MatrixView<float> dlogits_TC) {
  const size_t tokens = logits_TC.rows(), choices = logits_TC.cols();
  const moe::Routing& routing = saved.plan->routing;
  parallel_ranges(tokens, [&](size_t first, size_t last, size_t) {
    std::vector<float> dscores_C(choices);
    for (size_t t = first; t < last; ++t) {
      const auto logits_C = logits_TC.row(t), scores_C = saved.scores_TC.row(t);
      const auto dlogits_C = dlogits_TC.row(t);
      std::ranges::fill(dscores_C, 0.0f);

      add_balance_gradient(rule, saved.balance, d.balance, t, scores_C, dscores_C);
      add_spread_gradient(rule, saved.spread, d.spread, scores_C, dscores_C);
      add_entropy_gradient(rule, d.entropy, tokens, scores_C, dscores_C);

      // Weigh, and with SparseMixer select
      if (saved.was_drawn) {
        const size_t begin = static_cast<size_t>(routing.begin_T1[t]), count = static_cast<size_t>(rule.experts_per_token);
        draw_backward(rule, scores_C, std::span(routing.experts_N).subspan(begin, count), d.mix_N.subspan(begin, count), dscores_C);
      } else {
        weigh_backward(rule, routing, static_cast<int>(t), scores_C, d.mix_N, d.mix_M, dscores_C);
      }

      score_backward(rule, logits_C, scores_C, dscores_C, dlogits_C);
      add_z_gradient(d.z, tokens, saved.log_sum_T[t], logits_C, dlogits_C);
    }
  });
}

}  // namespace moiety::train
