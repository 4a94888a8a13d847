// Where the time of each rank's steps goes, and who is slow: what ranks tell each other with a sum at the end of a step.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/activity.h"
#include "base/json.h"
#include "moe/load.h"

namespace moiety::train {

// Every visit of a layer, an iteration, an expert.
int64_t visits_of(const moe::Load& load);

class ByRank {
 public:
  ByRank(int rank, int ranks);

  // This rank's step in its place among the others' zeros, so that the sum over ranks is what add() takes. `bytes_sent` so far, by rank.
  std::vector<double> mine(const Activity& activity, double seconds, int64_t visits, std::span<const uint64_t> bytes_sent);
  void add(std::span<const double> summed);

  // Means a step since it was asked last, arrays by rank: seconds, waited, visits, bytes (by receiver where there are few ranks), and by phase.
  Json take_means();
  // A line a rank, of the last steps, with a head.
  std::vector<std::string> table() const;
  // A sentence when a rank becomes slow, and when it no longer is. A rank is slow whose time without waiting, by its median over kJudged steps,
  // is kSlow times the others' median.
  std::optional<std::string> news();

  static constexpr size_t kJudged = 10;
  static constexpr double kSlow = 1.5;

 private:
  static constexpr std::array kPhases{"data", "forward", "backward", "optimizer"};
  static constexpr size_t kSeconds = 0, kWaited = 1, kVisits = 2, kPhase = 3, kBytes = kPhase + kPhases.size();
  static constexpr size_t kLinks = 32;  // ranks up to which bytes are told by receiver

  size_t fields() const { return kBytes + (ranks_ <= kLinks ? ranks_ : 1); }
  double median(size_t rank, const auto& of_step) const;
  double busy(size_t rank) const;
  double in_phase(size_t rank, size_t phase) const;
  double of_others(size_t rank, const auto& of_rank) const;
  std::string describe_slow(size_t rank) const;

  const size_t rank_, ranks_;
  std::vector<uint64_t> sent_;               // when asked last
  std::deque<std::vector<double>> steps_;    // the last kJudged: ranks x fields
  std::vector<double> sums_;                 // since take_means
  int64_t summed_ = 0;
  std::vector<bool> is_slow_;
};

}  // namespace moiety::train
