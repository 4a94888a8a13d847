// Which rank holds which of a layer's experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace moiety::moe {

// Each expert has one home. A rank numbers those that it holds, which may be none, in ascending order.
class Placement {
 public:
  Placement() = default;
  Placement(std::vector<int> owner_E, int ranks) : owner_E_(std::move(owner_E)), experts_W_(static_cast<size_t>(ranks)) {
    for (size_t expert = 0; expert < owner_E_.size(); ++expert) {
      std::vector<int>& experts = experts_W_[static_cast<size_t>(owner_E_[expert])];
      place_E_.push_back(static_cast<int>(experts.size()));
      experts.push_back(static_cast<int>(expert));
    }
  }

  int num_ranks() const { return static_cast<int>(experts_W_.size()); }
  int num_experts() const { return static_cast<int>(owner_E_.size()); }
  int owner(int expert) const { return owner_E_[static_cast<size_t>(expert)]; }
  // Its number among its owner's.
  int place(int expert) const { return place_E_[static_cast<size_t>(expert)]; }
  std::span<const int> experts(int rank) const { return experts_W_[static_cast<size_t>(rank)]; }
  int count(int rank) const { return static_cast<int>(experts(rank).size()); }
  std::span<const int> owners() const { return owner_E_; }

  friend bool operator==(const Placement&, const Placement&) = default;

 private:
  std::vector<int> owner_E_, place_E_;
  std::vector<std::vector<int>> experts_W_;
};

// Neighbours, as many on each rank, or one more: 64 experts on 3 ranks are 21, 21 and 22.
inline Placement spread_evenly(int experts, int ranks) {
  std::vector<int> owner_E;
  for (int rank = 0; rank < ranks; ++rank) {
    const int64_t end = int64_t{experts} * (rank + 1) / ranks;
    owner_E.resize(static_cast<size_t>(end), rank);
  }
  return {std::move(owner_E), ranks};
}

}  // namespace moiety::moe
