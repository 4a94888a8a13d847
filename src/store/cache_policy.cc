#include "store/cache_policy.h"

#include <cmath>

namespace moiety::store {
namespace {

struct Named {
  CachePolicy policy;
  std::string_view name;
};
constexpr Named kNames[] = {{CachePolicy::Auto, "auto"},         {CachePolicy::Lru, "lru"},     {CachePolicy::Lfu, "lfu"},
                            {CachePolicy::Weight, "weight"},     {CachePolicy::Distance, "distance"},
                            {CachePolicy::Blend, "blend"},       {CachePolicy::Belady, "belady"}};

double faded(double count, double tokens, double half_life) { return count * std::exp2(-tokens / half_life); }

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

CachePolicy policy_named(std::string_view name, bool& found) {
  for (const Named& row : kNames) {
    found = row.name == name;
    if (found) return row.policy;
  }
  return CachePolicy::Auto;
}

void use(ExpertUse& expert, const Demand& demand, size_t tokens, uint64_t visit, uint64_t token) {
  const double passed = static_cast<double>(token - expert.token), step = static_cast<double>(tokens);
  const double uses = static_cast<double>(demand.tokens), weight = static_cast<double>(demand.weight);
  expert.lately = faded(expert.lately, passed, kLately) + uses * share_left(step, kLately);
  expert.long_run = faded(expert.long_run, passed, kLongRun) + uses * share_left(step, kLongRun);
  expert.weight = faded(expert.weight, passed, kLongRun) + weight * share_left(step, kLongRun);
  expert.visit = visit;
  expert.token = token;
}

double keep_score(CachePolicy policy, const ExpertUse& expert, uint64_t token, size_t turns, size_t layers) {
  const double passed = static_cast<double>(token - expert.token), distance = static_cast<double>(turns) / static_cast<double>(layers);
  // Layers come in turns: of experts that are worth the same, the one that is wanted last goes. LRU lets each go just before it
  // is wanted when a step visits more than there is room for, and finds nothing.
  constexpr double kTie = 1e-6;
  switch (policy) {
    case CachePolicy::Auto:
    case CachePolicy::Blend: {
      // Long-run share of tokens, and the same of the last few, as chances; a use lately is worth more where uses repeat.
      const double often = faded(expert.long_run, passed, kLongRun) * (1 - std::exp2(-1 / kLongRun));
      const double lately = faded(expert.lately, passed, kLately) * (1 - std::exp2(-1 / kLately));
      return often + lately - kTie * distance;
    }
    case CachePolicy::Lru:
      return static_cast<double>(expert.visit);
    case CachePolicy::Lfu:
      return faded(expert.long_run, passed, kLongRun) - kTie * distance;
    case CachePolicy::Weight:
      return faded(expert.weight, passed, kLongRun) - kTie * distance;
    case CachePolicy::Distance:
      return -distance - kTie * passed / (passed + 1000);
    case CachePolicy::Belady:
      return -static_cast<double>(expert.next);
  }
  return 0;
}

}  // namespace moiety::store
