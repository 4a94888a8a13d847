#include "store/expert_store.h"

#include <vector>

namespace moiety::store {

void ResidentStore::visit(int, std::span<const Demand> demands, size_t, const Use& use) {
  std::vector<int> experts;
  for (const Demand& demand : demands) experts.push_back(demand.expert);
  use(experts);
}

}  // namespace moiety::store
