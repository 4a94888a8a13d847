// Which layers a rank has where ranks form a pipeline: stages, each with one or several chunks of neighbouring layers. And who holds a
// weight beside the ranks of its stage.
#pragma once

#include "spec/weight.h"

namespace moiety::train {

// [first, end)
struct LayerRange {
  int first = 0, end = 0;
  bool has(int layer) const { return layer >= first && layer < end; }
};

// The layers are cut in stages * chunks parts, as long as each other or one layer longer; part p is chunk p / stages of stage p % stages.
struct StageShare {
  int stage = 0, stages = 1, chunks = 1;

  int parts() const { return stages * chunks; }
  int part(int chunk) const { return chunk * stages + stage; }
  LayerRange layers(int num_layers, int chunk) const {
    const int part = this->part(chunk);
    return {num_layers * part / parts(), num_layers * (part + 1) / parts()};
  }
  bool has(int num_layers, int layer) const;
};

enum class Holders {
  EveryStage,  // of a gate that goes from layer to layer
  BothEnds,    // an embedding that is the output matrix too
  OneStage,
};
inline constexpr size_t kHolders = 3;

// Where there is but one stage all is OneStage's.
Holders holders_of(const spec::ModelSpec& spec, const spec::Weight& weight, const StageShare& share);
bool is_here(const spec::ModelSpec& spec, const spec::Weight& weight, const StageShare& share);

// The first MoE layer from this one on; -1 if there is none.
int moe_layer_from(const spec::ModelSpec& spec, int layer);

}  // namespace moiety::train
