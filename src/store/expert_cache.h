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
    size_t room = 0;  // for experts: as many as that, or what sizes_LE counts in
    CachePolicy policy = CachePolicy::Auto;
    std::vector<ExpertId> pinned = {};  // never go once they are there; as many as there is room for
    bool has_low = false;  // half of a layer's experts are the others' copies of low precision, in the same order
    std::vector<std::vector<size_t>> sizes_LE = {};  // what each takes of the room; empty: 1
  };
  // experts_L: how many experts each layer has, 0 where it has none.
  ExpertCache(std::span<const size_t> experts_L, const Options& options);

  // An expert that was asked for and was not there.
  struct Miss {
    int expert = 0;
    bool stays = false;        // else it is computed with and goes
    bool low_is_here = false;  // its copy of low precision, which nobody asks for any more: if it stays that goes
  };
  struct Visit {
    std::vector<int> here;  // all are used before any of them goes
    std::vector<Miss> missing;
    std::vector<ExpertId> leaving;  // to make room for these
  };
  // Tokens of a step, so many, come to a layer with these demands, each expert once. Decides at once who is there after the
  // visit. With `next_of`, of an expert of this layer, the number of the visit that uses it again (CachePolicy::Belady).
  using NextUse = std::function<uint64_t(int expert)>;
  Visit visit(int layer, std::span<const Demand> demands, size_t tokens, const NextUse& next_of = {});

  // What was to stay did not come.
  void lose(ExpertId id);
  // From now on there is so much room, or again so much; which experts went for it.
  std::vector<ExpertId> use_room(size_t room);

  bool has(ExpertId id) const;
  // Of an expert, its copy of low precision, where it is one that has one.
  std::optional<ExpertId> low_copy_of(ExpertId id) const;
  const ExpertUse& use_of(ExpertId id) const;  // in whichever precision
  size_t size_of(ExpertId id) const;
  const std::vector<std::vector<size_t>>& sizes() const { return options_.sizes_LE; }
  size_t room() const { return room_; }
  size_t used() const { return used_; }  // of it
  size_t slots() const;                  // experts of average size that there is room for
  // In force: what Auto has come to.
  CachePolicy policy() const { return policy_; }

 private:
  // The experts that are there as a heap: whose score is least comes first.
  struct Scored {
    double score;
    ExpertId id;
    auto operator<=>(const Scored&) const = default;
  };
  double score(ExpertId id) const;
  size_t use_number(ExpertId id) const;
  std::vector<Scored> worst_first(int last_layer, std::span<const ExpertId> but) const;
  void add(ExpertId id);
  void remove(ExpertId id);
  void give_room(int layer, size_t tokens, Visit& visit);
  void choose_policy(int layer, std::span<const Demand> demands, size_t tokens);

  Options options_;
  CachePolicy policy_;
  size_t room_, used_ = 0;
  std::vector<ExpertId> there_;
  std::vector<std::vector<size_t>> place_LE_;  // in there_; kNone: it is not there
  std::vector<std::vector<ExpertUse>> uses_LE_;
  std::vector<std::vector<bool>> pinned_LE_;
  std::vector<uint64_t> tokens_L_;
  size_t layer_ = 0;  // of this visit
  uint64_t visits_ = 0;
  std::deque<PastVisit> past_;  // of Auto, until it has seen enough
  uint64_t past_tokens_ = 0, next_choice_ = 0;
};

}  // namespace moiety::store
