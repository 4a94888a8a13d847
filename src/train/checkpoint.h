// Checkpoints: complete or absent. Each is a folder that inference reads as a model, with what training needs to go on
// beside it.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "spec/model_spec.h"
#include "train/optimizer.h"
#include "train/weights.h"

namespace moiety::train {

// Where a run is, apart from its weights and moments.
struct RunState {
  int64_t step = 0;    // steps done
  int64_t steps = 0;   // of the whole run
  int64_t tokens = 0;  // trained on so far
  Json domains;        // of Sampler::state
  Json usual, routers;  // of StepJudge and RouterHealth; null: of a run that began before there were any
};

Json to_json(const RunState& state);
// Throws Error(Input) naming `where`.
RunState run_state_from(const Json& json, const std::string& where);

struct CheckpointFiles {
  fs::path folder;     // run/checkpoints
  fs::path tokenizer;  // copied into each; may be absent
};

// Weights and moments, what is here of them: weights first.
std::vector<TensorPart> state_tensors(const Weights& weights, Optimizer& optimizer);

// Where the one of a step is.
fs::path checkpoint_path(const fs::path& folder, int64_t step);

// The last of writing one: weights and moments are in `folder`. Adds what else belongs to it, with the hashes of all, and gives it its name.
void seal_checkpoint(AtomicFolder& folder, const CheckpointFiles& files, const spec::ModelSpec& spec, Json state);

// The newest checkpoint whose files are all there with the bytes they were written with.
std::optional<fs::path> newest_checkpoint(const fs::path& folder);

// The newest of those up to a step, else the oldest; whole, both.
std::optional<fs::path> checkpoint_before(const fs::path& folder, int64_t step);

// When the newest was sealed; long ago if there is none.
std::chrono::steady_clock::time_point last_sealed(const fs::path& folder);

// Fills weights and moments, with the experts that are here; throws if the checkpoint's model isn't `spec`.
RunState read_checkpoint(const fs::path& checkpoint, const spec::ModelSpec& spec, Weights& weights,
                         Optimizer& optimizer);

// Deletes all but the newest `keep`, and what was never sealed.
void remove_old_checkpoints(const fs::path& folder, int64_t keep);

}  // namespace moiety::train
