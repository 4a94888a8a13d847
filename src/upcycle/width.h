// A wider model out of a narrower one that it begins with computing like: neurons are copied, and who reads a copy reads less of
// each (Chen et al. 2022, "bert2BERT"; Zhang et al. 2024, "AquilaMoE", the Scale-Up).
#pragma once

#include "upcycle/made_model.h"

namespace moiety::upcycle {

enum class NewNeurons {
  Copies,     // of the same layer's: function-preserving initialisation (FPI)
  NextLayer,  // of the layer's after it, for those that no other layer can do without: advanced knowledge initialisation (AKI)
};

struct Width {
  int width = 0, dense_hidden = 0, kv_heads = 0;  // 0: as they are; the ratio of heads to key-value heads stays
  NewNeurons neurons = NewNeurons::Copies;
  // Two copies that read and are read alike stay alike for ever. Those that read them take more of one and less of another, by
  // random numbers of this share of the matrix's size that sum to zero over the copies of a neuron, so that nothing is changed.
  double noise = 0.1;
  uint64_t seed = 1;
};

// The residual stream's copies of a dimension with c copies are each 1/sqrt(c) of it, so that the stream keeps its length and RMS
// norms their results, at any width; eps shrinks as the mean does. With Copies the logits stay what they were but for rounding,
// and, where queries and keys are normed, for the norms' shrunken eps. Throws Error(Input) for a smaller size, and for models
// with layer norms, latent attention or gates that growing doesn't know.
MadeModel grow_width(MadeModel model, const Width& how);

}  // namespace moiety::upcycle
