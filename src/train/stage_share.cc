#include "train/stage_share.h"

namespace moiety::train {

using spec::Role;

namespace {

// In whose chunk it is used.
int layer_of(const spec::ModelSpec& spec, const spec::Weight& weight) {
  const int last = spec.num_layers - 1;
  switch (weight.role) {
    case Role::Embedding:
      return 0;
    case Role::FinalNorm:
    case Role::FinalNormBias:
    case Role::Head:
    case Role::HeadBias:
      return last;
    default:
      break;
  }
  if (weight.layer == spec.num_layers) return 0;  // a router of its own, before all layers
  // The layer before asks for these logits
  const bool is_ahead = weight.role == Role::Router && spec.moe.router.gate == spec::Gate::Ahead;
  const int before = is_ahead ? spec.moe_layer_before(weight.layer) : -1;
  return before >= 0 ? before : weight.layer;
}

}  // namespace

bool StageShare::has(int num_layers, int layer) const {
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if (layers(num_layers, chunk).has(layer)) return true;
  }
  return false;
}

Holders holders_of(const spec::ModelSpec& spec, const spec::Weight& weight, const StageShare& share) {
  if (share.stages == 1) return Holders::OneStage;
  switch (weight.role) {
    case Role::GruInput:
    case Role::GruState:
    case Role::GruInputBias:
    case Role::GruStateBias:
      return Holders::EveryStage;
    case Role::Embedding:
      return spec.tied_embeddings ? Holders::BothEnds : Holders::OneStage;
    default:
      return Holders::OneStage;
  }
}

bool is_here(const spec::ModelSpec& spec, const spec::Weight& weight, const StageShare& share) {
  if (share.stages == 1) return true;
  switch (holders_of(spec, weight, share)) {
    case Holders::EveryStage:
      return true;
    case Holders::BothEnds:
      return share.stage == 0 || share.stage == share.stages - 1;
    case Holders::OneStage:
      return share.has(spec.num_layers, layer_of(spec, weight));
  }
  return false;
}

int moe_layer_from(const spec::ModelSpec& spec, int layer) {
  while (layer < spec.num_layers && spec.feed_forward[static_cast<size_t>(layer)] != spec::FeedForward::Moe) ++layer;
  return layer < spec.num_layers ? layer : -1;
}

}  // namespace moiety::train
