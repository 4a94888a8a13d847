// What a step holds while it runs, beside weights and caches.
#pragma once

#include <cstddef>

#include "spec/model_spec.h"

namespace moiety::model {

// Bytes of activations when so many tokens are computed at once, and of `logits` rows of logits: a little more than is needed.
size_t step_bytes(const spec::ModelSpec& spec, size_t tokens, size_t logits);

// Tokens of a prompt that are best computed at once while nothing but the arithmetic counts: enough for experts to meet several
// each. Latent attention makes keys and values of all positions once a step.
size_t prompt_chunk(const spec::ModelSpec& spec);

}  // namespace moiety::model
