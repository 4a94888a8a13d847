#include "train/spawn.h"

#include <cmath>

#include "base/random.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {

void spawn_experts(Weights& weights, double noise, uint64_t seed) {
  constexpr uint64_t kSpawn = 0x737061776e;  // a stream of random numbers apart from those of the beginning
  for (size_t i = 0; i < weights.entries().size(); ++i) {
    const Weights::Entry& entry = weights.entries()[i];
    if (!spec::is_expert(entry.weight.role)) continue;
    const auto stack = weights.values().subspan(entry.begin, entry.size);
    const size_t experts = static_cast<size_t>(entry.shape[0]), size = entry.size / experts;
    const auto first = stack.first(size);
    const float deviation = static_cast<float>(noise * std::sqrt(sum_of_squares(first) / static_cast<double>(size)));
    parallel_tasks(experts - 1, [&](size_t copy) {
      Random random(seed ^ kSpawn, (i << 20) + copy);
      const auto to = stack.subspan((copy + 1) * size, size);
      for (size_t at = 0; at < size; ++at) to[at] = first[at] + deviation * static_cast<float>(random.normal());
    });
  }
}

}  // namespace moiety::train
