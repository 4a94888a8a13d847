// A deeper model out of a shallower one: its layers more than once.
#pragma once

#include "upcycle/made_model.h"

namespace moiety::upcycle {

enum class NewLayers {
  Interpolated,  // each layer followed by its copies (Zhang et al. 2024, "AquilaMoE"); the function is not preserved
  Stacked,       // all layers, then all again (Gong et al. 2019, "StackBERT"); the function is not preserved
  Silent,        // as Interpolated, but copies begin with adding nothing to the stream (Wu et al. 2024, "LLaMA Pro")
};

// Throws Error(Input) for fewer layers than there are.
MadeModel grow_depth(MadeModel model, int layers, NewLayers how);

}  // namespace moiety::upcycle
