#include "upcycle/split.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "format/weight_names.h"
#include "upcycle/matrices.h"

namespace moiety::upcycle {
namespace {

using spec::FeedForward;
using spec::ModelSpec;
using spec::Role;
using spec::Weight;

// Activations' mean squares are what moiety importance records of the columns of down.
std::vector<double> worth_of(const format::Importance& domain, const ModelSpec& spec, int layer,
                             const std::vector<float>& down_DF) {
  const std::string name = format::name_of(*format::kGgufNames.rows(Role::DenseDown).front(), {Role::DenseDown, layer});
  const size_t hidden = static_cast<size_t>(spec.dense_hidden);
  const std::vector<float> activation_F = domain.of(name, 0, 1, hidden);
  require(!activation_F.empty(), "{}: it says nothing of {}; it should come from moiety importance of the model that is split",
          domain.where, name);
  std::vector<double> worth(hidden);
  for (size_t i = 0; i < down_DF.size(); ++i) worth[i % hidden] += static_cast<double>(down_DF[i]) * down_DF[i];
  for (size_t unit = 0; unit < hidden; ++unit) worth[unit] *= activation_F[unit];
  return worth;
}

}  // namespace

std::vector<int> largest(std::span<const double> values, int count) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int a, int b) { return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(count));
  std::ranges::sort(order);
  return order;
}

MadeModel split_by_use(MadeModel model, std::span<const format::Importance> domains, const Split& how) {
  const ModelSpec& dense = model.spec;
  require(dense.moe_layers() == 0, "the model has experts already; what is split are the feed-forwards of a dense one");
  require(!domains.empty(), "there are no statistics to split by");
  const int experts = static_cast<int>(domains.size());
  const int hidden = how.expert_hidden > 0 ? how.expert_hidden : (dense.dense_hidden + 1) / 2;
  require(hidden <= dense.dense_hidden, "experts of {} hidden units can't come out of a feed-forward of {}", hidden,
          dense.dense_hidden);
  require(how.dense_layers < dense.num_layers, "{} layers stay dense, of {}", how.dense_layers, dense.num_layers);

  MadeModel mixture{.spec = dense};
  const int per_token = how.experts_per_token > 0 ? how.experts_per_token : std::min(2, experts);
  require(per_token <= experts, "{} experts per token, of {}", per_token, experts);
  mixture.spec.moe = {
      .router = {.num_experts = experts, .experts_per_token = per_token, .gate = how.gate.kind, .gate_width = how.gate.width},
      .expert_hidden = hidden};
  std::fill(mixture.spec.feed_forward.begin() + how.dense_layers, mixture.spec.feed_forward.end(), FeedForward::Moe);
  spec::check(mixture.spec, "the mixture");

  std::vector<std::vector<std::vector<int>>> units_LE(static_cast<size_t>(dense.num_layers));
  for (int layer = how.dense_layers; layer < dense.num_layers; ++layer) {
    const std::vector<float> down_DF = model.make({Role::DenseDown, layer});
    for (const format::Importance& domain : domains) {
      units_LE[static_cast<size_t>(layer)].push_back(largest(worth_of(domain, dense, layer, down_DF), hidden));
    }
  }

  mixture.make = [model = std::move(model), units_LE = std::move(units_LE), how, mixed = mixture.spec](const Weight& weight) {
    const size_t width = static_cast<size_t>(model.spec.width);
    if (auto own = router_weight(mixed, weight, how.gate, 1, how.seed)) return std::move(*own);
    if (!spec::is_expert(weight.role)) return model.make(weight);
    const std::vector<int>& units = units_LE[static_cast<size_t>(weight.layer)][static_cast<size_t>(weight.expert)];
    switch (weight.role) {
      case Role::ExpertGate:
        return rows_of(model.make({Role::DenseGate, weight.layer}), width, units);
      case Role::ExpertUp:
        return rows_of(model.make({Role::DenseUp, weight.layer}), width, units);
      default:
        return cols_of(model.make({Role::DenseDown, weight.layer}), static_cast<size_t>(model.spec.dense_hidden), units);
    }
  };
  return mixture;
}

}  // namespace moiety::upcycle
