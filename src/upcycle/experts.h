// Dense feed-forwards into experts: copies of them, each perhaps in parts, of one model or of several.
#pragma once

#include <vector>

#include "upcycle/gate.h"
#include "upcycle/made_model.h"

namespace moiety::upcycle {

// Experts lie copy after copy, and in a copy part after part: expert e is part e % parts of copy e / parts, which is a copy of
// model (e / parts) % models. All parts of a copy have the same row in the router, so a token that takes `parts` experts takes a
// whole copy (He et al. 2024, "Upcycling large language models into mixture of experts": virtual groups).
struct Copies {
  int copies = 0;             // 0: 8 of one model, one of each of several
  int parts = 1;              // experts that a copy is divided into: each has that share of the hidden units
  int experts_per_token = 0;  // 0: two copies, or one if there is one
  spec::Score score = spec::Score::Softmax;
  bool renormalise = true;
  int dense_layers = 0;     // so many first layers stay as they are,
  int every = 1;            // and of those after them all but each every'th
  bool keep_dense = false;  // beside the experts as a shared one; they begin with giving nothing
  bool ternary = false;  // experts' weights are rounded to -1, 0 or 1 times a scale whenever they are computed with (Wang et al.
                         // 2025, "MoTE", with keep_dense)
  // Of several models: queries and outputs of attention are experts too, one of each model, of which a token takes so many; keys
  // and values are the models' mean (Zhang et al. 2024, "BAM", with shared keys and values). 0: all attention is their mean.
  int attention_experts_per_token = 0;
  NewGate gate;
  double noise = 0;  // added to the experts' weights, as a share of each matrix's own size
  uint64_t seed = 1;
};

// The mixture; every other weight is the mean over the models, which must differ in their weights alone (Komatsuzaki et al. 2022,
// "Sparse upcycling"; Sukhbaatar et al. 2024, "Branch-Train-MiX"). Rows of up and columns of down are scaled alike, so that a
// mixture of equal weights is the dense feed-forward. Throws Error(Input) for models that don't fit and numbers that don't
// divide.
MadeModel mix_experts(std::vector<MadeModel> models, const Copies& how);

// Whether the mixture computes what its one model did: copies without noise, whole ones to every token, weights that sum to one.
bool mixing_preserves(const MadeModel& mixture, size_t models, const Copies& how);

}  // namespace moiety::upcycle
