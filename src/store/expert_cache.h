// Which experts have a place in memory: the books of a cache, without the bytes. The store that holds them and the replay of a
// routing trace keep the same books, so that a replay's hit rate is a run's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "store/cache_policy.h"

namespace moiety::store {

// A layer's visit in a step of so many tokens.
struct PastVisit {
  int layer = 0;
  size_t tokens = 1;
  std::vector<Demand> demands;
};

class ExpertCache {
 public:
  struct Options {
    size_t slots = 0;
    CachePolicy policy = CachePolicy::Auto;
    std::vector<ExpertId> pinned = {};  // never go once they are there; as many as there are slots for
    bool has_low = false;  // half of a layer's experts are the others' copies of low precision, in the same order
  };
  // experts_L: how many experts each layer has, 0 where it has none.
  ExpertCache(std::span<const size_t> experts_L, const Options& options);

  // An expert that was asked for and was not there.
  struct Miss {
    int expert = 0;
    std::optional<size_t> slot;      // that it stays in; without one it is computed with and goes
    std::optional<ExpertId> leaves;  // who had that slot
    bool replaces_low = false;       // that is its own copy of low precision, which nobody asks for any more
  };
  struct Visit {
    std::vector<int> here;  // all are used before any of them goes
    std::vector<Miss> missing;
  };
  // Tokens of a step, so many, come to a layer with these demands, each expert once. Decides at once who is there after the
  // visit. With `next_of`, of an expert of this layer, the number of the visit that uses it again (CachePolicy::Belady).
  using NextUse = std::function<uint64_t(int expert)>;
  Visit visit(int layer, std::span<const Demand> demands, size_t tokens, const NextUse& next_of = {});

  // What was to be in a slot did not come.
  void lose(ExpertId id);
  // From now on so many slots are in use, of those that there are; which experts went for it, and from where.
  struct Gone {
    ExpertId id;
    size_t slot;
  };
  std::vector<Gone> use_slots(size_t count);

  bool has(ExpertId id) const { return slot_of(id).has_value(); }
  // Of an expert, its copy of low precision, where it is one that has one.
  std::optional<ExpertId> low_copy_of(ExpertId id) const;
  std::optional<size_t> slot_of(ExpertId id) const;
  const ExpertUse& use_of(ExpertId id) const;  // in whichever precision
  size_t slots() const { return slots_.size() - closed_.size(); }
  std::span<const size_t> closed_slots() const { return closed_; }
  // In force: what Auto has come to.
  CachePolicy policy() const { return policy_; }

 private:
  double score(ExpertId id) const;
  size_t use_number(ExpertId id) const;
  void give_slot(int layer, Miss& miss, size_t slot);
  void replace_low(int layer, std::vector<Miss>& missing);
  void give_slots(int layer, std::vector<Miss>& missing);
  void choose_policy(int layer, std::span<const Demand> demands, size_t tokens);

  Options options_;
  CachePolicy policy_;
  std::vector<std::optional<ExpertId>> slots_;  // whose they are
  std::vector<size_t> free_, closed_;
  std::vector<std::vector<size_t>> slot_of_LE_;  // kNone: not in memory
  std::vector<std::vector<ExpertUse>> uses_LE_;
  std::vector<std::vector<bool>> pinned_LE_;
  std::vector<uint64_t> tokens_L_;
  size_t layer_ = 0;  // of this visit
  uint64_t visits_ = 0;
  std::deque<PastVisit> past_;  // of Auto, until it has seen enough
  uint64_t past_tokens_ = 0, next_choice_ = 0;
};

}  // namespace moiety::store
