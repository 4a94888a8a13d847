#include "upcycle/gate.h"

#include <cmath>
#include <functional>
#include <numeric>

#include "base/random.h"

namespace moiety::upcycle {
namespace {

using spec::Role;

std::vector<float> normal(size_t count, double deviation, Random& random) {
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(deviation * random.normal());
  return values;
}

// `groups` rows, each `alike` times.
std::vector<float> repeated_rows(size_t groups, size_t alike, size_t cols, double deviation, Random& random) {
  std::vector<float> rows;
  for (size_t group = 0; group < groups; ++group) {
    const std::vector<float> row = normal(cols, deviation, random);
    for (size_t i = 0; i < alike; ++i) rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

bool is_norm(Role role) {
  return role == Role::AttentionNorm || role == Role::FeedForwardNorm || role == Role::QueryNorm || role == Role::KeyNorm;
}

bool is_gates(const spec::ModelSpec& mixture, const spec::Weight& weight) {
  switch (weight.role) {
    case Role::Router:
    case Role::AttentionRouter:
    case Role::SelectionBias:
    case Role::GateDown:
    case Role::GateTemperature:
    case Role::GruInput:
    case Role::GruState:
    case Role::GruInputBias:
    case Role::GruStateBias:
      return true;
    default:
      return weight.layer == mixture.num_layers;  // a router of its own
  }
}

}  // namespace

std::optional<std::vector<float>> router_weight(const spec::ModelSpec& mixture, const spec::Weight& weight, const NewGate& gate,
                                                int alike, uint64_t seed) {
  if (!is_gates(mixture, weight)) return std::nullopt;
  const std::vector<int64_t> shape = spec::shape_of(mixture, weight.role, weight.layer);
  const size_t size = static_cast<size_t>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>()));
  const size_t cols = static_cast<size_t>(shape.back()), rows = size / cols;
  Random random(seed, (static_cast<uint64_t>(weight.role) << 32) + static_cast<uint64_t>(weight.layer + 1));
  if (weight.role == Role::Router)
    return repeated_rows(rows / static_cast<size_t>(alike), static_cast<size_t>(alike), cols, gate.deviation, random);
  if (weight.role == Role::AttentionRouter) return normal(size, gate.deviation, random);
  if (shape.size() == 1) return std::vector<float>(size, is_norm(weight.role) ? 1.0f : 0.0f);
  return normal(size, 1 / std::sqrt(static_cast<double>(cols)), random);
}

}  // namespace moiety::upcycle
