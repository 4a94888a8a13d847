// What a model's predictions are compared with: another model's on the same tokens, computed now or saved before.
#pragma once

#include <functional>

#include "base/thread_pool.h"
#include "engine/divergence.h"
#include "engine/evaluate.h"
#include "engine/saved_logits.h"

namespace moiety::engine {

// Log probabilities of the window's scored tokens, [scored, V]. Windows must come in the order of the text.
using Reference = std::function<Matrix<float>(const Window&)>;

// `transformer` must outlive it.
Reference model_reference(model::Transformer& transformer, kernel::KvType kv);
// Throws Error(Input), when it is asked, for tokens that are not those that were saved.
Reference saved_reference(SavedLogits saved);

// The model's own, of the scored tokens.
Matrix<float> log_probabilities(const Window& window, ThreadPool& threads);

Divergence compare(const Window& window, const Reference& reference, ThreadPool& threads);

}  // namespace moiety::engine
