#include "upcycle/modules.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace moiety::upcycle {
namespace {

using spec::ModelSpec;
using spec::Role;
using spec::Weight;

void check_gate(const spec::MoeSpec& moe) {
  const spec::RouterRule& r = moe.router;
  require(r.is_learnt() && r.gate != spec::Gate::Tree, "a hash, random or tree gate has no row for each expert that could come or go");
  require(r.num_groups == 1 && r.zero_cost_experts() == 0 && !r.gating_residual && moe.iterations == 1,
          "experts in groups or chains, beside experts that cost nothing or with gating residuals can't come or go");
  require(moe.gru_experts == 0, "GRU experts can't come or go");
}

ModelSpec spec_of(const ModelSpec& old, const Modules& modules) {
  ModelSpec s = old;
  std::vector<int> experts_L;
  for (const std::vector<int>& experts : modules.experts_L) experts_L.push_back(static_cast<int>(experts.size()));
  s.moe.router.num_experts = *std::ranges::max_element(experts_L);
  const bool is_even = std::ranges::all_of(experts_L, [&](int n) { return n == 0 || n == s.moe.router.num_experts; });
  s.moe.experts_L = is_even ? std::vector<int>() : experts_L;
  if (s.attention.experts) s.attention.experts->num_experts = static_cast<int>(modules.attention_experts.size());
  spec::check(s, "the model with other experts");
  return s;
}

class Changed {
 public:
  Changed(MadeModel old, const Modules& modules, const ModelSpec& spec) : old_(std::move(old)), modules_(modules), spec_(spec) {}

  std::vector<float> make(const Weight& weight) const {
    switch (weight.role) {
      case Role::ExpertGate:
      case Role::ExpertUp:
      case Role::ExpertDown:
      case Role::ExpertGateBias:
      case Role::ExpertUpBias:
      case Role::ExpertDownBias:
        return expert(weight);
      case Role::Router:
      case Role::RouterBias:
      case Role::SelectionBias:
        return parts(weight, modules_.experts_L[static_cast<size_t>(weight.layer)]);
      case Role::AttentionRouter:
      case Role::AttentionExpertQuery:
      case Role::AttentionExpertOutput:
        return parts(weight, modules_.attention_experts);
      default:
        return old_.make(weight);
    }
  }

 private:
  std::vector<float> expert(const Weight& weight) const {
    const int from = modules_.experts_L[static_cast<size_t>(weight.layer)][static_cast<size_t>(weight.expert)];
    if (from != kNewExpert) return old_.make({weight.role, weight.layer, from});
    const std::vector<int64_t> shape = spec::shape_of(spec_, weight.role, weight.layer);
    return fresh(weight, weight.expert, static_cast<size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)), shape.size() > 1);
  }

  // A weight with an equal part for each expert.
  std::vector<float> parts(const Weight& weight, const std::vector<int>& experts) const {
    const std::vector<int64_t> shape = spec::shape_of(spec_, weight.role, weight.layer);
    const size_t size = static_cast<size_t>(
        std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<int64_t>()));
    const std::vector<float> old = old_.make(weight);
    std::vector<float> all;
    for (size_t e = 0; e < experts.size(); ++e) {
      if (experts[e] == kNewExpert) {
        const std::vector<float> part = fresh(weight, static_cast<int>(e), size, shape.size() > 1);
        all.insert(all.end(), part.begin(), part.end());
      } else {
        const auto first = old.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(experts[e]) * size);
        all.insert(all.end(), first, first + static_cast<ptrdiff_t>(size));
      }
    }
    return all;
  }

  std::vector<float> fresh(const Weight& weight, int expert, size_t size, bool is_matrix) const {
    std::vector<float> values(size);
    if (!is_matrix) return values;
    const bool is_router = weight.role == Role::Router || weight.role == Role::AttentionRouter;
    const bool adds_to_stream = weight.role == Role::ExpertDown || weight.role == Role::AttentionExpertOutput;
    const auto inputs = static_cast<double>(spec::shape_of(spec_, weight.role, weight.layer).back());
    const double depth = adds_to_stream ? std::sqrt(2.0 * spec_.num_layers) : 1;
    const double deviation = is_router ? modules_.router_deviation : 1 / (std::sqrt(inputs) * depth);
    const uint64_t matrix = (static_cast<uint64_t>(weight.role) << 20) + static_cast<uint64_t>(weight.layer + 1);
    Random random(Random(modules_.seed, matrix).next(), static_cast<uint64_t>(expert));
    for (float& x : values) x = static_cast<float>(deviation * random.normal());
    return values;
  }

  MadeModel old_;
  Modules modules_;
  ModelSpec spec_;
};

std::vector<int> counted(int n) {
  std::vector<int> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

Modules modules_of(const ModelSpec& spec) {
  Modules modules;
  for (int layer = 0; layer < spec.num_layers; ++layer) modules.experts_L.push_back(counted(spec.experts(layer)));
  if (spec.attention.experts) modules.attention_experts = counted(spec.attention.experts->num_experts);
  return modules;
}

MadeModel with_modules(MadeModel model, const Modules& modules) {
  require(model.spec.moe_layers() > 0, "the model has no experts; --copies makes some of its feed-forwards");
  check_gate(model.spec.moe);
  const ModelSpec spec = spec_of(model.spec, modules);
  const auto changed = std::make_shared<const Changed>(std::move(model), modules, spec);
  return {spec, [changed](const Weight& weight) { return changed->make(weight); }};
}

std::vector<int> busy_experts(std::span<const int64_t> visits_E, double share, int least) {
  const double mean = static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0})) / static_cast<double>(visits_E.size());
  std::vector<int> by_visits = counted(static_cast<int>(visits_E.size()));
  std::ranges::stable_sort(by_visits, std::greater<>(), [&](int e) { return visits_E[static_cast<size_t>(e)]; });
  std::vector<int> kept;
  for (const int e : by_visits) {
    const int64_t visits = visits_E[static_cast<size_t>(e)];
    const bool is_busy = visits > 0 && static_cast<double>(visits) >= share * mean;
    if (is_busy || static_cast<int>(kept.size()) < least) kept.push_back(e);
  }
  std::ranges::sort(kept);
  return kept;
}

}  // namespace moiety::upcycle
