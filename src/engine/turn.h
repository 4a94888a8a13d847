// What a step does for one sequence, and the step's run through the model.
#pragma once

#include <span>
#include <vector>

#include "base/matrix.h"
#include "engine/sequence.h"
#include "model/transformer.h"
#include "trace/trace_recorder.h"

namespace moiety::engine {

// Some next tokens of a sequence.
struct Turn {
  Sequence* sequence = nullptr;
  size_t tokens = 0;             // of those that it has and that aren't computed
  bool is_rest = false;          // these are all, so that a new one comes after them
  std::vector<int32_t> drafted;  // to be tried after them

  bool wants_token() const { return is_rest && sequence->request.kind == Request::Kind::Generate; }
  bool wants_prompt_logprobs() const { return sequence->request.prompt_logprobs && sequence->said().empty(); }
  // Of so many of its tokens, the last ones and those drafted, logits are wanted.
  size_t logits() const;
};

struct TurnResult {
  MatrixView<const float> logits_RV;
  Matrix<float> states_TD;  // of an Embed
};

// A step: the results of all turns, in their order. Throws as Transformer::forward does; the caches then are what they were.
struct StepResult {
  Matrix<float> logits_RV;
  std::vector<TurnResult> turns;
};
StepResult run_step(model::Transformer& transformer, std::span<const Turn> turns, trace::TraceRecorder* trace,
                    const model::RoutingObserver& observe);

}  // namespace moiety::engine
