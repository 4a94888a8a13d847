#include "upcycle/depth.h"

#include <algorithm>

#include "base/error.h"

namespace moiety::upcycle {
namespace {

using spec::Role;

// What adds to the residual stream.
bool adds(Role role) {
  constexpr Role kRoles[] = {
      Role::AttentionOutput, Role::AttentionExpertOutput, Role::AttentionOutputBias, Role::DenseDown, Role::SharedDown,
      Role::ExpertDown,      Role::ExpertDownBias,        Role::ExpertGruOutput};
  return std::ranges::find(kRoles, role) != std::end(kRoles);
}

}  // namespace

MadeModel grow_depth(MadeModel model, int layers, NewLayers how) {
  const int old = model.spec.num_layers;
  require(layers >= old, "{} layers can't be grown to {}", old, layers);
  const auto source = [=](int layer) {
    return how == NewLayers::Stacked ? layer % old : static_cast<int>(int64_t{layer} * old / layers);
  };
  require(!model.spec.has_own_router(), "a model whose routers are one of their own can't grow in depth");
  spec::ModelSpec spec = model.spec;
  spec.num_layers = layers;
  spec.moe.experts_L.clear();
  spec.feed_forward.clear();
  spec.attention.windowed.clear();
  for (int layer = 0; layer < layers; ++layer) {
    const size_t from = static_cast<size_t>(source(layer));
    spec.feed_forward.push_back(model.spec.feed_forward[from]);
    if (!model.spec.attention.windowed.empty()) spec.attention.windowed.push_back(model.spec.attention.windowed[from]);
    if (!model.spec.moe.experts_L.empty()) spec.moe.experts_L.push_back(model.spec.moe.experts_L[from]);
  }
  spec::check(spec, "the deeper model");
  return {spec, [model = std::move(model), source, how](const spec::Weight& weight) {
            if (weight.layer < 0) return model.make(weight);
            std::vector<float> values = model.make({weight.role, source(weight.layer), weight.expert});
            const bool is_copy = weight.layer > 0 && source(weight.layer) == source(weight.layer - 1);
            if (how == NewLayers::Silent && is_copy && adds(weight.role)) std::ranges::fill(values, 0.0f);
            return values;
          }};
}

}  // namespace moiety::upcycle
