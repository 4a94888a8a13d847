#include "store/cache_policy.h"

#include <cmath>

namespace moiety::store {
namespace {

double faded(const ExpertUse& expert, uint64_t visit_of_layer) {
  return expert.count * std::exp2(-static_cast<double>(visit_of_layer - expert.last_of_layer) / kHalfLife);
}

}  // namespace

void use(ExpertUse& expert, uint64_t visit, uint64_t visit_of_layer) {
  expert = {visit, faded(expert, visit_of_layer) + 1, visit_of_layer};
}

double keep_score(CachePolicy policy, const ExpertUse& expert, uint64_t visit_of_layer, size_t turns, size_t layers) {
  switch (policy) {
    case CachePolicy::Lru:
      return static_cast<double>(expert.last);
    case CachePolicy::Lfu: {
      constexpr double kTie = 1e-6;
      return faded(expert, visit_of_layer) - kTie * static_cast<double>(turns) / static_cast<double>(layers);
    }
  }
  return 0;
}

}  // namespace moiety::store
