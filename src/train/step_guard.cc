#include "train/step_guard.h"

#include <utility>

#include "base/error.h"

namespace moiety::train {

StepGuard::StepGuard(const TrainConfig& config, const PreparedData& data, const spec::ModelSpec& spec, Weights& weights, Optimizer& optimizer,
                     CheckpointWriter& checkpoints, comm::Group* ranks)
    : config_(config), data_(data), spec_(spec), weights_(weights), optimizer_(optimizer), checkpoints_(checkpoints), ranks_(ranks), judge_(config.bad_steps) {}

Json StepGuard::pass_over(const Verdict& verdict, StepTraces traces, int64_t steps) {
  checkpoints_.let_go();  // moments are read one at a time
  traces.gradient = gradient_shares(weights_, optimizer_, ranks_);
  Cause cause = cause_of(verdict, traces, data_, ranks_);
  const std::string what = describe(verdict) + cause.words;
  const TrainConfig::BadSteps& bad_steps = config_.bad_steps;
  require(bad_steps.policy != "stop", "step {}: {}: bad_steps.policy is \"stop\"; a lower optimizer.lr may help", steps + 1, what);
  require(!judge_.has_seen_enough(), "step {}: {}: {} of the {} steps before were bad, too (bad_steps.most); a lower optimizer.lr may help", steps + 1, what,
          judge_.bad_ones() - 1, bad_steps.window - 1);

  optimizer_.pass_over();
  Json bad = std::move(cause.fields);
  bad["what"] = name_of(verdict.trouble);
  bad["sentence"] = what + ": skipped";
  if (bad_steps.policy != "roll_back") return bad;
  if (const auto back = roll_back(steps)) {
    bad["back_to"] = *back;
    bad["sentence"] = fmt::format("{}: rolled back to step {}", what, *back);
  }
  return bad;
}

// Weights, moments and what is usual become those after an earlier step, which is returned; steps and data go on, so that what led here is not
// done again. Nothing if there is no checkpoint yet.
std::optional<int64_t> StepGuard::roll_back(int64_t steps) {
  checkpoints_.settle();
  const fs::path folder = fs::path(config_.run.dir) / "checkpoints";
  std::string name;
  if (ranks_ == nullptr || ranks_->is_first()) {
    if (const auto found = checkpoint_before(folder, steps - config_.bad_steps.back)) name = found->filename().string();
  }
  if (ranks_ != nullptr) name = ranks_->tell("roll back", name);
  if (name.empty()) return std::nullopt;
  const RunState then = read_checkpoint(folder / name, spec_, weights_, optimizer_);
  judge_.restore_usual(then.usual, name);
  return then.step;
}

}  // namespace moiety::train
