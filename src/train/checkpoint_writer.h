// Checkpoints written while training goes on: each rank writes its own share of the files that one process would write (ShareWriter), and
// when all have, which they tell each other with what ends a step, rank 0 checks in what is there and gives the folder its name. One that
// could not be written is dropped: those before it stay, and training goes on.
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>

#include "train/checkpoint.h"
#include "train/share_writer.h"

namespace moiety::train {

struct CheckpointFigures {
  int64_t complete = 0;
  double stalled = 0;  // seconds that steps stood still for them
};

class CheckpointWriter {
 public:
  // All but the newest `keep` are deleted, when one has become complete. What it is given must outlive it.
  CheckpointWriter(CheckpointFiles files, int64_t keep, const spec::ModelSpec& spec, comm::Group* ranks = nullptr);

  // The state is read until let_go(), and must not change before; `more_state` lies beside the optimizer's, in optimizer.safetensors. First
  // the one before is ended. Collective.
  void begin(const Weights& weights, Optimizer& optimizer, const RunState& state, const std::vector<format::TensorView>& more_state = {});
  void let_go();
  // Until the one under way is complete, or it is said why it can't be. Collective.
  void settle();
  // Ranks have other parts of the state from here on.
  void lay_out_anew() { numbers_N_.clear(); }

  // What this rank adds to the sums that hear() wants: whether its share is written, and whether it could not be.
  struct News {
    double written = 0, failed = 0;
  };
  News news() const;
  // The sums over all ranks. Returns why a checkpoint is not there, once, on rank 0 and where it was seen.
  std::optional<std::string> hear(const News& of_all);
  // Until it is complete. Collective. Throws Error(Io) on every rank if it can't be and hear() has not said so.
  void finish();

  const CheckpointFigures& figures() const { return figures_; }

 private:
  bool is_first() const { return ranks_ == nullptr || ranks_->is_first(); }
  std::string because(const std::string& why) const;
  void commit();
  // Waits for the one under way.
  struct End {
    bool is_lost = false;                        // the same on every rank
    std::optional<std::string> failure = {};  // as hear()
  };
  End end();
  double sum(double mine);

  const CheckpointFiles files_;
  const int64_t keep_;
  const spec::ModelSpec& spec_;
  comm::Group* const ranks_;

  // Of the one under way.
  Json state_;
  int64_t step_ = 0;
  std::optional<AtomicFolder> folder_;  // on rank 0
  std::unique_ptr<ShareWriter> share_;  // until all have heard that all are written
  bool is_ended_ = true;                // all know how it ended
  std::future<void> commit_;            // on rank 0

  std::vector<Part> numbers_N_;  // that this rank writes
  CheckpointFigures figures_;
};

}  // namespace moiety::train
