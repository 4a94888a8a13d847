// Which steps are bad: their data damaged, their loss or their gradient's norm no number, or far above what it was of late. A function of
// a few numbers that all ranks have alike, so that all come to the same verdict; what becomes of a bad step is the trainer's business.
//
// Far above: more than so many spreads above the median of the last good steps. The spread is the median distance from the median, times
// 1.4826, which makes it the standard deviation of normal numbers; unlike mean and deviation (Kumar et al. 2025, "ZClip") neither moves
// much with what slips through. Norms are judged by their logarithms, since they vary by factors. A run that learns has its median above
// the present, so that the fall of the first steps, which makes the spread wide, raises no alarm.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/config.h"

namespace moiety::train {

enum class Trouble { None, Damage, LossNoNumber, NormNoNumber, LossSpike, NormSpike };

struct StepFigures {
  double loss = 0, norm = 0;
  bool is_damaged = false;  // of its tokens some are none of the vocabulary
};

struct Verdict {
  Trouble trouble = Trouble::None;
  StepFigures figures;
  double usual = 0, spreads = 0;  // of a spike: the median, and how far above it
  bool is_bad() const { return trouble != Trouble::None; }
};

std::string in_words(double number);  // four digits, or NaN
const char* name_of(Trouble trouble);
// What is wrong, as a part of a sentence.
std::string describe(const Verdict& verdict);

class StepJudge {
 public:
  explicit StepJudge(const TrainConfig::BadSteps& config) : config_(config) {}

  // Also takes the step in: good ones say what is usual, bad ones are counted.
  Verdict judge(const StepFigures& figures);
  // More than `most` of the last `window` steps were bad.
  bool has_seen_enough() const;
  int64_t bad_ones() const;
  // What was usual is no longer, since the run has just become another one.
  void forget_usual();

  // For the checkpoint; null: there was no step yet.
  Json state() const;
  void restore(const Json& state, const std::string& where);
  // What was usual then, and the bad steps counted up to now.
  void restore_usual(const Json& state, const std::string& where);

  static constexpr size_t kAtLeast = 20;  // good steps before a spike is one
  static constexpr double kSmallestOfLoss = 0.02;  // spread, over the median
  static constexpr double kSmallestOfNorm = 0.2;   // spread of logarithms

 private:
  void look_for_spike(Verdict& verdict) const;
  size_t window() const { return static_cast<size_t>(config_.window); }

  TrainConfig::BadSteps config_;
  std::deque<double> losses_, norms_;  // of good steps, the latest last
  std::deque<int64_t> bad_;            // of the last steps, the latest last: how many steps ago each bad one was
};

}  // namespace moiety::train
