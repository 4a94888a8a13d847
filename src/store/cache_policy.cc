#include "store/cache_policy.h"

#include <cmath>
#include <vector>

namespace moiety::store {
namespace {

struct Named {
  CachePolicy policy;
  std::string_view name;
};
constexpr Named kNames[] = {{CachePolicy::Auto, "auto"},         {CachePolicy::Lru, "lru"},     {CachePolicy::Lfu, "lfu"},
                            {CachePolicy::Weight, "weight"},     {CachePolicy::Distance, "distance"},
                            {CachePolicy::Blend, "blend"},       {CachePolicy::Belady, "belady"}};

// What a use counts so many tokens later. Every score of every expert in memory asks for it at every visit.
template <int kHalfLife>
double left_after(uint64_t tokens) {
  static const std::vector<double> table = [] {
    std::vector<double> left;
    for (int i = 0; i < 24 * kHalfLife; ++i) left.push_back(std::exp2(-static_cast<double>(i) / kHalfLife));
    return left;
  }();
  return tokens < table.size() ? table[tokens] : 0;
}

// What uses spread evenly over so many tokens count at the last of them, on average.
double share_left(double tokens, double half_life) {
  const double a_token = std::exp2(-1 / half_life);
  return (1 - std::exp2(-tokens / half_life)) / (tokens * (1 - a_token));
}

}  // namespace

std::string_view name(CachePolicy policy) {
  for (const Named& row : kNames) {
    if (row.policy == policy) return row.name;
  }
  return "";
}

std::optional<CachePolicy> policy_named(std::string_view name) {
  for (const Named& row : kNames) {
    if (row.name == name) return row.policy;
  }
  return std::nullopt;
}

void use(ExpertUse& expert, const Demand& demand, size_t tokens, uint64_t visit, uint64_t token) {
  const uint64_t passed = token - expert.token;
  const double step = static_cast<double>(tokens);
  const double uses = static_cast<double>(demand.tokens), weight = static_cast<double>(demand.weight);
  expert.lately = expert.lately * left_after<kLately>(passed) + uses * share_left(step, kLately);
  expert.long_run = expert.long_run * left_after<kLongRun>(passed) + uses * share_left(step, kLongRun);
  expert.weight = expert.weight * left_after<kLongRun>(passed) + weight * share_left(step, kLongRun);
  expert.visit = visit;
  expert.token = token;
}

double keep_score(CachePolicy policy, const ExpertUse& expert, uint64_t token, size_t turns, size_t layers) {
  const uint64_t passed = token - expert.token;
  const double distance = static_cast<double>(turns) / static_cast<double>(layers);
  // Layers come in turns: of experts that are worth the same, the one that is wanted last goes. LRU lets each go just before it
  // is wanted when a step visits more than there is room for, and finds nothing.
  constexpr double kTie = 1e-6;
  switch (policy) {
    case CachePolicy::Auto:
    case CachePolicy::Blend: {
      // Long-run share of tokens, and the same of the last few, as chances; a use lately is worth more where uses repeat.
      const double often = expert.long_run * left_after<kLongRun>(passed) * (1 - left_after<kLongRun>(1));
      const double lately = expert.lately * left_after<kLately>(passed) * (1 - left_after<kLately>(1));
      return often + lately - kTie * distance;
    }
    case CachePolicy::Lru:
      return static_cast<double>(expert.visit);
    case CachePolicy::Lfu:
      return expert.long_run * left_after<kLongRun>(passed) - kTie * distance;
    case CachePolicy::Weight:
      return expert.weight * left_after<kLongRun>(passed) - kTie * distance;
    case CachePolicy::Distance:
      return -distance - kTie * static_cast<double>(passed) / static_cast<double>(passed + 1000);
    case CachePolicy::Belady:
      return -static_cast<double>(expert.next);
  }
  return 0;
}

}  // namespace moiety::store
