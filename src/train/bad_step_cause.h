// What a bad step's trouble can be traced to: a place in the prepared text, a weight and its expert, a router. Looked for when a step is
// bad, and only then.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/bad_step.h"
#include "train/gradient_shares.h"
#include "train/text_loss.h"

namespace moiety::train {

// Of a step, before the gradients are cleared.
struct StepTraces {
  std::optional<Damage> damage;
  std::vector<TextLoss> texts;             // that this rank has seen
  std::vector<GradientShare> gradient;     // of all ranks
  std::optional<std::string> router;       // the first of the model whose logits were no numbers
};

struct Cause {
  std::string words;  // to follow what is wrong; may be empty
  Json fields;        // for metrics.jsonl, an object
};

// With `ranks` collective, and the same on each.
Cause cause_of(const Verdict& verdict, const StepTraces& traces, const PreparedData& data, comm::Group* ranks);

}  // namespace moiety::train
