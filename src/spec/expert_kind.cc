#include "spec/expert_kind.h"

#include <algorithm>
#include <cassert>

namespace moiety::spec {

std::optional<ExpertKind> kind_of(Role role) {
  for (const ExpertKindInfo& kind : kExpertKinds) {
    if (std::ranges::count(kind.matrices, role) + std::ranges::count(kind.biases, role) > 0) return kind.kind;
  }
  return std::nullopt;
}

int experts_of(const ModelSpec& spec, int layer, ExpertKind kind) {
  const int experts = spec.experts(layer);
  return experts == 0 ? 0 : info(kind).count(spec.moe, experts);
}

int experts_with(const ModelSpec& spec, int layer, Role role) {
  const std::optional<ExpertKind> kind = kind_of(role);
  return kind ? experts_of(spec, layer, *kind) : 0;
}

ExpertPlace place_of(const ModelSpec& spec, int layer, int expert) {
  for (const ExpertKindInfo& kind : kExpertKinds) {
    const int count = experts_of(spec, layer, kind.kind);
    if (expert < count) return {kind.kind, expert};
    expert -= count;
  }
  assert(false);
  return {};
}

int64_t state_before(const ModelSpec& spec, int layer) {
  int64_t numbers = 0;
  for (const ExpertKindInfo& kind : kExpertKinds) {
    const int64_t state = kind.state(spec.moe);
    for (int before = 0; state > 0 && before < layer; ++before) numbers += state * experts_of(spec, before, kind.kind);
  }
  return numbers;
}

}  // namespace moiety::spec
