// Activations that are made again on the way back instead of kept (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
#pragma once

#include <functional>

#include "train/functions.h"

namespace moiety::train {

// `outputs`, made without a graph from `inputs`, become nodes of it. On the way back `again` makes the same of them once more, with a
// graph of its own, through which the gradients go. What `again` decides must be what was decided the first time.
tensor_list recompute_later(const tensor_list& inputs, const tensor_list& outputs,
                            std::function<tensor_list(const tensor_list& inputs)> again);

}  // namespace moiety::train
