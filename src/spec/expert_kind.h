// The kinds of experts that may stand side by side in a layer, under one router: what each is made of, and what it keeps of a
// sequence. How a kind computes is said in model/expert_kind.h and train/expert_kind.h; what costs nothing is no kind
// (RouterRule::null_experts and the others). docs/adding/expert-kind.md says how to add one.
#pragma once

#include <array>
#include <optional>
#include <span>

#include "spec/model_spec.h"
#include "spec/weight.h"

namespace moiety::spec {

enum class ExpertKind {
  FeedForward,  // down(activation(gate x, up x)); weights may be ternary
  // A gated recurrent unit (Cho et al. 2014) over the tokens of a sequence that visit the expert, in their order, and what its state
  // is projected to: h = gru(x, h of the visit before), y = output h. h is 0 at the beginning of a sequence, in training of a
  // document (Pandey et al. 2025, "Hecto").
  Gru,
};

inline constexpr size_t kMatricesPerExpert = 3;

struct ExpertKindInfo {
  ExpertKind kind;
  std::array<Role, kMatricesPerExpert> matrices;               // what a store may leave on the disk
  std::array<std::optional<Role>, kMatricesPerExpert> biases;  // of each of them, always in memory
  bool (*has_biases)(const MoeSpec&);
  int (*count)(const MoeSpec&, int experts);  // how many of a layer's experts are of this kind
  int (*state)(const MoeSpec&);               // numbers that an expert keeps of a sequence after each of its positions
};

// In the order in which a layer numbers its experts: all of one kind, then all of the next.
inline constexpr ExpertKindInfo kExpertKinds[] = {
    {.kind = ExpertKind::FeedForward,
     .matrices = {Role::ExpertGate, Role::ExpertUp, Role::ExpertDown},
     .biases = {Role::ExpertGateBias, Role::ExpertUpBias, Role::ExpertDownBias},
     .has_biases = [](const MoeSpec& moe) { return moe.expert_bias; },
     .count = [](const MoeSpec& moe, int experts) { return experts - moe.gru_experts; },
     .state = [](const MoeSpec&) { return 0; }},
    {.kind = ExpertKind::Gru,
     .matrices = {Role::ExpertGruInput, Role::ExpertGruState, Role::ExpertGruOutput},
     .biases = {Role::ExpertGruInputBias, Role::ExpertGruStateBias, std::nullopt},
     .has_biases = [](const MoeSpec&) { return true; },
     .count = [](const MoeSpec& moe, int) { return moe.gru_experts; },
     .state = [](const MoeSpec& moe) { return moe.gru_hidden; }},
};

constexpr const ExpertKindInfo& info(ExpertKind kind) { return kExpertKinds[static_cast<size_t>(kind)]; }

// The kind that a weight of this role is one's of; none for a role that is no expert's.
std::optional<ExpertKind> kind_of(Role role);

// How many experts of a kind a layer has, 0 if it is dense; and of those that have a weight of this role: the length of its stack.
int experts_of(const ModelSpec& spec, int layer, ExpertKind kind);
int experts_with(const ModelSpec& spec, int layer, Role role);

// An expert of a layer by its kind, and its number among those of the kind, which is Weight::expert.
struct ExpertPlace {
  ExpertKind kind;
  int number;
};
ExpertPlace place_of(const ModelSpec& spec, int layer, int expert);

// Numbers that the layers before this one keep of a sequence after each position; of all layers for num_layers.
int64_t state_before(const ModelSpec& spec, int layer);

}  // namespace moiety::spec
