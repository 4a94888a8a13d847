#include "trace/local_consistency.h"

#include <algorithm>

namespace moiety::trace {
namespace {

// Adds one run's segments to the counts. How many tokens of the current segment visit an expert changes only when one of these
// tokens comes or goes; how many segments it stayed so is added then.
class SegmentCounter {
 public:
  SegmentCounter(int num_experts, size_t segment, std::vector<int64_t>& counts)
      : segment_(segment), counts_(counts), tokens_E_(static_cast<size_t>(num_experts)), since_E_(tokens_E_.size()) {}

  void add(const LayerRun& run) {
    if (run.tokens() < segment_) return;
    std::fill(tokens_E_.begin(), tokens_E_.end(), size_t{0});
    std::fill(since_E_.begin(), since_E_.end(), size_t{0});
    for (size_t t = 0; t < run.tokens(); ++t) {
      const size_t now = t + 1 < segment_ ? 0 : t + 1 - segment_;  // the segment that this token is the last of
      for (const uint16_t expert : run.of(t)) change(expert, now, 1);
      if (now == 0) continue;
      for (const uint16_t expert : run.of(now - 1)) change(expert, now, -1);
    }
    const size_t segments = run.tokens() - segment_ + 1;
    for (size_t expert = 0; expert < tokens_E_.size(); ++expert) change(expert, segments, 0);
  }

 private:
  void change(size_t expert, size_t now, int by) {
    // An expert that comes with the same segment with which it goes stands one above what it will be, for no segment at all.
    if (now > since_E_[expert]) counts_[tokens_E_[expert]] += static_cast<int64_t>(now - since_E_[expert]);
    since_E_[expert] = now;
    tokens_E_[expert] += static_cast<size_t>(by);
  }

  size_t segment_;
  std::vector<int64_t>& counts_;
  std::vector<size_t> tokens_E_, since_E_;
};

// Caches of all sizes up to a bound at once, as a stack: the cache of s experts is its first s (Mattson et al. 1970, "Evaluation
// techniques for storage hierarchies"). That caches of neighbouring sizes differ by one expert only is so because all would let go
// of experts in the same order.
class CacheStack {
 public:
  CacheStack(int num_experts, size_t most_slots, CacheHits& hits)
      : most_slots_(most_slots), hits_(hits), place_E_(static_cast<size_t>(num_experts)), future_E_(place_E_.size()), used_E_(place_E_.size()) {}

  void add(const LayerRun& run, size_t segment) {
    stack_.clear();
    seen_ = 0;
    std::fill(place_E_.begin(), place_E_.end(), kUnseen);
    std::fill(future_E_.begin(), future_E_.end(), 0u);
    for (size_t t = 0; t < std::min(segment, run.tokens()); ++t) see_coming(run.of(t));
    for (size_t t = 0; t < run.tokens(); ++t) {
      for (const uint16_t expert : run.of(t)) count(expert);
      for (const uint16_t expert : run.of(t)) take_in(expert);
      if (t + segment < run.tokens()) see_coming(run.of(t + segment));
    }
  }

 private:
  static constexpr size_t kUnseen = SIZE_MAX, kOut = SIZE_MAX - 1;

  void see_coming(std::span<const uint16_t> experts) {
    for (const uint16_t expert : experts) ++future_E_[expert];
  }

  void count(uint16_t expert) {
    ++hits_.visits;
    const size_t least_slots = place_E_[expert] == kUnseen ? seen_++ : place_E_[expert];
    if (least_slots < most_slots_) ++hits_.hits_S[least_slots];  // and of all that are larger
  }

  bool goes_before(uint16_t a, uint16_t b) const {
    return future_E_[a] != future_E_[b] ? future_E_[a] < future_E_[b] : used_E_[a] < used_E_[b];
  }

  // To the top; each place below keeps whichever of its expert and the one pushed out from above is wanted more.
  void take_in(uint16_t expert) {
    uint16_t pushed = expert;
    const size_t from = std::min(place_E_[expert], stack_.size());
    for (size_t place = 0; place < from; ++place) {
      if (place > 0 && goes_before(pushed, stack_[place])) continue;
      std::swap(pushed, stack_[place]);
      place_E_[stack_[place]] = place;
    }
    place_E_[pushed] = from < most_slots_ ? from : kOut;
    if (from < stack_.size()) {
      stack_[from] = pushed;
    } else if (from < most_slots_) {
      stack_.push_back(pushed);
    }
    --future_E_[expert];
    used_E_[expert] = ++clock_;
  }

  size_t most_slots_;
  CacheHits& hits_;
  std::vector<uint16_t> stack_;
  std::vector<size_t> place_E_;     // in the stack
  std::vector<uint32_t> future_E_;  // visits by the tokens that are known
  std::vector<uint64_t> used_E_;    // when last
  size_t seen_ = 0;                 // experts of the run so far
  uint64_t clock_ = 0;
};

}  // namespace

std::vector<int64_t> segment_counts(std::span<const TokenRun> runs, int layer, int num_experts, int segment) {
  std::vector<int64_t> counts(static_cast<size_t>(segment) + 1, 0);
  SegmentCounter counter(num_experts, static_cast<size_t>(segment), counts);
  for (const TokenRun& run : runs) counter.add(run.by_sparse_layer[static_cast<size_t>(layer)]);
  return counts;
}

SegmentRouting segment_routing(std::span<const int64_t> counts) {
  const auto segment = static_cast<double>(counts.size() - 1);
  double wanted = 0;
  for (size_t c = 0; c < counts.size(); ++c) wanted += static_cast<double>(c) * static_cast<double>(counts[c]);
  if (wanted == 0) return {};
  SegmentRouting best;
  double given = 0, right = 0;  // to tokens, by the bound c
  for (size_t c = counts.size(); c-- > 0;) {
    given += segment * static_cast<double>(counts[c]);
    right += static_cast<double>(c) * static_cast<double>(counts[c]);
    const double f1 = 2 * right / (given + wanted);
    if (f1 > best.srp) best = {f1, given / wanted};
  }
  return best;
}

CacheHits segment_cache(std::span<const TokenRun> runs, int layer, int num_experts, int segment, int most_slots) {
  CacheHits hits{.hits_S = std::vector<int64_t>(static_cast<size_t>(most_slots), 0)};
  CacheStack caches(num_experts, static_cast<size_t>(most_slots), hits);
  for (const TokenRun& run : runs) caches.add(run.by_sparse_layer[static_cast<size_t>(layer)], static_cast<size_t>(segment));
  for (size_t s = 1; s < hits.hits_S.size(); ++s) hits.hits_S[s] += hits.hits_S[s - 1];
  return hits;
}

}  // namespace moiety::trace
