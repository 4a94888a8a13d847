// The weights a model is made of: what each one is for, which of them a ModelSpec calls for, and their shapes. Names in
// files are format/'s business.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spec/model_spec.h"

namespace moiety::spec {

enum class Role {
  // once a model
  Embedding,
  FinalNorm,
  FinalNormBias,
  Head,
  HeadBias,
  // of a gate that goes from layer to layer (Gate::Recurrent): rows of reset, update and candidate, one after the other
  GruInput,
  GruState,
  GruInputBias,
  GruStateBias,
  // once a layer
  AttentionNorm,
  AttentionNormBias,
  Query,
  Key,
  Value,
  AttentionOutput,
  AttentionOutputBias,
  QueryBias,
  KeyBias,
  ValueBias,
  QueryNorm,
  KeyNorm,
  Sinks,
  // of attention experts: their router, and stacks of all, [experts, out, in]
  AttentionRouter,
  AttentionExpertQuery,
  AttentionExpertOutput,
  // of latent attention: down to the small vectors and up from them; KeyUp is transposed, [heads, rank, dim]
  QueryDown,
  QueryDownNorm,
  QueryUp,
  KvDown,
  KvDownNorm,
  KeyUp,
  ValueUp,
  FeedForwardNorm,
  FeedForwardNormBias,
  DenseGate,
  DenseUp,
  DenseDown,
  Router,
  RouterBias,
  SelectionBias,
  GatingResidual,   // what the logits of the MoE layer before are multiplied with; the first has none
  ConstantMix,      // of the constant experts, one after the other: two rows each
  ConstantVector,   // a row each
  GateDown,         // to the gate's width; of Gate::Decoupled once, in the layer after all
  GateTemperature,  // the logarithm of what the temperature is multiplied with
  GateLeaf,         // a tree's leaves, whose decisions are the router; tree by tree
  // down to the width of experts and up from it
  ExpertsDescend,
  ExpertsAscend,
  ExpertsBias,  // on what the routed experts give together
  SharedGate,
  SharedUp,
  SharedDown,
  SharedScale,
  // once an expert
  ExpertGate,
  ExpertUp,
  ExpertDown,
  ExpertGateBias,
  ExpertUpBias,
  ExpertDownBias,
  // of a GRU: rows of reset, update and candidate, one after the other
  ExpertGruInput,
  ExpertGruState,
  ExpertGruOutput,
  ExpertGruInputBias,
  ExpertGruStateBias,
};

constexpr bool is_expert(Role role) { return role >= Role::ExpertGate; }
constexpr bool is_attention_expert(Role role) { return role == Role::AttentionExpertQuery || role == Role::AttentionExpertOutput; }
// Of feed-forward experts.
inline constexpr Role kExpertMatrices[] = {Role::ExpertGate, Role::ExpertUp, Role::ExpertDown};
constexpr bool is_expert_matrix(Role role) { return role >= Role::ExpertGate && role <= Role::ExpertDown; }

// One weight: its role, its layer (-1 for the model's own), its expert among those of its kind (-1 for all but experts).
struct Weight {
  Role role = Role::Embedding;
  int layer = -1;
  int expert = -1;
};

// All weights of a model, in the order in which a token meets them. Experts come one by one if `each_expert`, else
// every expert role once a layer with expert -1 (the stack of all).
std::vector<Weight> weights_of(const ModelSpec& spec, bool each_expert);

// Outermost first, [out, in] for matrices, [heads, out, in] for the projections up from the latent; for an expert role the
// shape of one expert's matrix or bias. Routers have a row for each expert of the layer and iteration, those of the first
// iteration first; without a layer, as many as the layer that has most.
std::vector<int64_t> shape_of(const ModelSpec& spec, Role role, int layer = -1);

}  // namespace moiety::spec
