// Checkpoints: complete or absent. Each is a folder that inference reads as a model, with what training needs to go on
// beside it.
#pragma once

#include <optional>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "comm/group.h"
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

// `more_state` lies beside the optimizer's, in optimizer.safetensors. All `ranks` call this: the first writes what one process would,
// and gets from the others what it does not have, some numbers at a time.
void write_checkpoint(const CheckpointFiles& files, const spec::ModelSpec& spec, const Weights& weights, Optimizer& optimizer,
                      const RunState& state, const std::vector<format::TensorView>& more_state = {}, comm::Group* ranks = nullptr);

// The newest checkpoint whose files are all there with the bytes they were written with.
std::optional<fs::path> newest_checkpoint(const fs::path& folder);

// Fills weights and moments, with the experts that are here; throws if the checkpoint's model isn't `spec`.
RunState read_checkpoint(const fs::path& checkpoint, const spec::ModelSpec& spec, Weights& weights,
                         Optimizer& optimizer);

// Deletes all but the newest `keep`.
void remove_old_checkpoints(const fs::path& folder, int64_t keep);

}  // namespace moiety::train
