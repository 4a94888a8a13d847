// The training loop: model, optimizer, checkpoints and metrics of one run, from wherever it was to its end.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/activity.h"
#include "base/json.h"
#include "moe/load.h"
#include "trace/trace_recorder.h"
#include "train/by_rank.h"
#include "train/checkpoint_writer.h"
#include "train/expert_homes.h"
#include "train/optimizer.h"
#include "train/permutation_search.h"
#include "train/pipeline.h"
#include "train/prepare.h"
#include "train/rank_layout.h"
#include "train/router_health.h"
#include "train/routing_figures.h"
#include "train/run.h"
#include "train/sampler.h"
#include "train/snapshots.h"
#include "train/step_guard.h"
#include "train/transformer.h"
#include "train/validation.h"

namespace moiety::train {

// Of ranks that come and go; nullptr: they don't.
struct Elastic {
  comm::Crew* crew = nullptr;
  Snapshots* snapshots = nullptr;
};

class Trainer {
 public:
  // `config` must leave nothing open. What it is given must outlive it. `ranks`: nullptr if this process is alone.
  Trainer(const TrainConfig& config, const PreparedData& data, Activity& activity, comm::Group* ranks = nullptr, const Elastic& elastic = {});

  Outcome run(const TrainHooks& hooks);
  // Of a few steps that change no weight; the trainer is of no use afterwards.
  double measure_tokens_per_second();

 private:
  // A micro-batch of a step: this rank's part of it, and what share of its tokens and of its targets are there.
  struct MicroBatch {
    Batch batch;
    float tokens, targets;
  };
  // Of all micro-batches so far, on this rank.
  struct StepSums {
    double loss = 0, balance = 0, z = 0, entropy = 0, spread = 0, consistency = 0;
    int64_t reruns = 0;
  };

  std::vector<Sampler::Domain> domains() const;
  void begin_or_resume();
  void note_state();
  bool go_on_from_snapshot();
  void keep_snapshot();
  void rest(const TrainHooks& hooks);
  Json regrouped() const;
  void fix_steps();
  bool step_count_is_fixed() const { return state_.steps > 0; }
  Json step();
  void record(const Batch& batch, const Routes& routes);
  double measure_gradients();
  void change_weights(double learning_rate);
  Json validate_now(bool last);
  void checkpoint();
  PassOrder pass_order();
  void add_rules(const PassOrder& order, Json& line) const;
  bool searches() const { return search_ && state_.step >= config_.anneal.spawn_step && search_step() < config_.anneal.search_steps; }
  int64_t search_step() const { return state_.step - config_.anneal.spawn_step; }
  int64_t follow_search(double learning_rate);
  std::optional<HomeChanges> rehome();
  size_t tokens_per_step() const {
    return static_cast<size_t>(config_.train.sequence * config_.train.batch * config_.train.accumulate);
  }
  double tokens_per_second() const {  // of this call's steps
    return static_cast<double>((state_.step - first_step_) * static_cast<int64_t>(tokens_per_step())) / std::max(1e-9, training_seconds_);
  }
  TrainConfig::Schedule schedule() const;

  bool is_first() const { return ranks_.is_first(); }
  MicroBatch next_micro_batch(int64_t number);
  void add(const MicroBatch& of, const TrainedMicroBatch& done, bool tells_load, StepSums& sums);
  Share my_share();
  struct Agreed {
    int64_t steps;
    bool stops, saves, regroups;
    CheckpointWriter::News saved;
  };
  Agreed agree(int64_t steps, bool stopping, bool saving);

  const TrainConfig& config_;
  Activity& activity_;
  RankLayout ranks_;
  const Elastic elastic_;
  fs::path dir_;
  const PreparedData& data_;
  spec::ModelSpec spec_;
  Weights weights_;
  Optimizer optimizer_;
  Transformer model_;
  std::optional<Pipeline> pipeline_;  // of several stages
  Sampler sampler_;
  RunState state_;
  RouterHealth health_;
  StepTraces traces_;  // of this step
  std::vector<RouterPlace> routers_;
  RoutingFigures step_routing_;               // by router
  moe::Load step_choices_;                    // by router: the step's visits so far, also to experts that cost nothing
  std::vector<std::vector<float>> cut_offs_;  // by router, of expert choice; means over the step's passes
  std::optional<PermutationSearch> search_;
  ExpertHomes homes_;
  std::optional<trace::TraceWriter> trace_writer_;
  std::optional<trace::TraceRecorder> trace_;
  std::vector<DomainScore> scores_;

  std::chrono::steady_clock::time_point last_checkpoint_{};
  CheckpointWriter checkpoints_;  // reads what is above
  StepGuard guard_;
  double going_at_ = 0;            // when the state was there, in seconds of crew::now()
  std::optional<ByRank> by_rank_;  // with several
  int64_t visits_ = 0;             // of the last step's tokens on this rank
  double last_loss_ = 0, last_step_seconds_ = 0, training_seconds_ = 0;
  std::vector<double> step_seconds_;  // while the number of steps isn't fixed
  int64_t first_step_ = 0;
  size_t activation_bytes_ = 0;
};

}  // namespace moiety::train
