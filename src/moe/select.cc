#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

#include "moe/entropy.h"
#include "moe/route.h"

namespace moiety::moe {
namespace {

using spec::RouterRule;
using spec::Select;
using Ids = std::vector<int32_t>;
using Scores = std::span<const float>;

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The first `count` numbers of 0 … size - 1 by falling key, ties to the lower number, come first in `order`.
void largest(Scores keys, size_t count, Ids& order) {
  order.resize(keys.size());
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int32_t a, int32_t b) { return keys[a] != keys[b] ? keys[a] > keys[b] : a < b; };
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(), better);
}

// What a group is worth by its experts' keys.
float worth(spec::GroupScore by, Scores keys) {
  float best = kLowest, second = kLowest;
  for (const float key : keys) {
    if (key > best) {
      second = best;
      best = key;
    } else if (key > second) {
      second = key;
    }
  }
  return by == spec::GroupScore::Best || keys.size() == 1 ? best : best + second;
}

// Experts outside the best groups fall out of the running.
void limit_to_groups(const RouterRule& rule, std::span<float> key_E) {
  const size_t groups = static_cast<size_t>(rule.num_groups), size = key_E.size() / groups;
  std::vector<float> worth_G(groups);
  for (size_t g = 0; g < groups; ++g) worth_G[g] = worth(rule.group_score, key_E.subspan(g * size, size));
  Ids order;
  largest(worth_G, static_cast<size_t>(rule.groups_per_token), order);
  for (size_t i = static_cast<size_t>(rule.groups_per_token); i < groups; ++i) {
    std::ranges::fill(key_E.subspan(static_cast<size_t>(order[i]) * size, size), kLowest);
  }
}

// All but the best few of each group fall out of the running.
void limit_in_groups(const RouterRule& rule, std::span<float> key_E) {
  const size_t groups = static_cast<size_t>(rule.num_groups), size = key_E.size() / groups;
  const size_t count = std::clamp<size_t>(static_cast<size_t>(rule.experts_per_token) / groups, 1, size);
  Ids order;
  for (size_t g = 0; g < groups; ++g) {
    const auto group = key_E.subspan(g * size, size);
    largest(group, count, order);
    // One that is no number is in the running all the same: each group gives equally many.
    for (size_t i = 0; i < count; ++i) group[static_cast<size_t>(order[i])] = std::max(group[static_cast<size_t>(order[i])], -std::numeric_limits<float>::max());
    for (size_t i = count; i < size; ++i) group[static_cast<size_t>(order[i])] = kLowest;
  }
}

// How many of the ordered choices it takes for their scores to reach p.
size_t prefix_reaching(float p, Scores scores_C, std::span<const int32_t> order) {
  float sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    sum += scores_C[static_cast<size_t>(order[i])];
    if (sum >= p) return i + 1;
  }
  return order.size();
}

// How many of the ordered choices have a key that reaches the threshold.
size_t prefix_above(float threshold, Scores key_C, std::span<const int32_t> order) {
  return static_cast<size_t>(std::ranges::find_if(order, [&](int32_t c) { return !(key_C[static_cast<size_t>(c)] >= threshold); }) -
                             order.begin());
}

// The choices of one token, in their order. `key_C` is used up.
void select(const RouterRule& rule, Scores scores_C, std::span<float> key_C, Ids& chosen) {
  if (rule.num_groups > 1) rule.select == Select::Grouped ? limit_in_groups(rule, key_C) : limit_to_groups(rule, key_C);
  const size_t per_token = static_cast<size_t>(rule.experts_per_token);
  largest(key_C, std::min(static_cast<size_t>(rule.most_choices()), key_C.size()), chosen);
  size_t count = per_token;
  switch (rule.select) {
    case Select::TopK:
      break;
    case Select::Grouped:
      // As many as groups allow, should a request ask for another number than the model's
      count = std::max(per_token / static_cast<size_t>(rule.num_groups), size_t{1}) * static_cast<size_t>(rule.num_groups);
      if (count > per_token) largest(key_C, count, chosen);
      break;
    case Select::TopP:
      count = prefix_reaching(rule.top_p, scores_C, std::span(chosen).first(per_token));
      break;
    case Select::Threshold:
      count = std::max<size_t>(1, prefix_above(rule.threshold, key_C, std::span(chosen).first(per_token)));
      break;
    case Select::ExpertChoice:
      count = prefix_above(0, key_C, chosen);
      break;
    case Select::Tsallis:
      count = entropy(rule.tsallis_q, scores_C) > rule.soft_entropy * entropy_of_equals(rule.tsallis_q, scores_C.size())
                  ? scores_C.size()
                  : std::max(per_token, prefix_reaching(rule.top_p, scores_C, chosen));
      break;
  }
  chosen.resize(count);
}

}  // namespace

Routing choose_experts(const RouterRule& rule, Scores scores_TC, Scores bias_C) {
  const size_t choices = static_cast<size_t>(rule.num_choices());
  assert(choices > 0 && rule.experts_per_token <= rule.num_choices() && scores_TC.size() % choices == 0);
  assert(bias_C.empty() || bias_C.size() == choices);

  Routing routing{.num_experts = rule.num_experts};
  const size_t num_tokens = scores_TC.size() / choices;
  routing.begin_T1.reserve(num_tokens + 1);
  routing.experts_N.reserve(num_tokens * static_cast<size_t>(rule.experts_per_token));

  std::vector<float> key_C(choices);
  Ids chosen;
  for (size_t t = 0; t < num_tokens; ++t) {
    const Scores scores_C = scores_TC.subspan(t * choices, choices);
    for (size_t c = 0; c < choices; ++c) {
      const float key = scores_C[c] + (bias_C.empty() ? 0.0f : bias_C[c]);
      key_C[c] = std::isnan(key) ? kLowest : key;
    }
    select(rule, scores_C, key_C, chosen);
    for (const int32_t c : chosen) (c < rule.num_experts ? routing.experts_N : routing.zero_cost.experts_N).push_back(c);
    routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
    if (rule.zero_cost_experts() > 0) routing.zero_cost.begin_T1.push_back(static_cast<int32_t>(routing.zero_cost.experts_N.size()));
  }
  return routing;
}

}  // namespace moiety::moe
