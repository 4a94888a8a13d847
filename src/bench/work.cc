#include "bench/work.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace moiety::bench {
namespace {

using spec::ElementType;
using spec::Role;

// Operations for one query of all heads on one position: its score, and its value's part of the sum.
double attention_operations(const spec::AttentionSpec& a) {
  return 2.0 * a.num_heads * (a.head_dim + (a.latent ? a.latent->value_dim : a.head_dim));
}

// What a weight of this type is multiplied as.
Unit unit_for(const kernel::Compute& compute, ElementType type) {
  switch (kernel::activations_for(compute, {.type = type}).form) {
    case kernel::ActivationForm::F32:
      return Unit::F32;
    case kernel::ActivationForm::Bf16:
      return Unit::Bf16;
    default:
      return Unit::Int8;
  }
}

// Bytes that a layer's cache keeps of one token.
double cache_bytes_per_token(const spec::AttentionSpec& a, kernel::KvType type) {
  const auto bytes = [&](int numbers, size_t per_scale) {
    const double scales = type == kernel::KvType::Q8 ? std::ceil(static_cast<double>(numbers) / static_cast<double>(per_scale)) : 0;
    return static_cast<double>(kernel::bytes_of(type)) * numbers + scales * sizeof(float);
  };
  if (a.latent) return bytes(a.latent->kv_rank + a.latent->rope_dim, kernel::kKeysPerScale);
  return a.num_kv_heads * (bytes(a.head_dim, kernel::kKeysPerScale) + bytes(a.head_dim, static_cast<size_t>(a.head_dim)));
}

}  // namespace

// All that a gate consists of is multiplied as it is.
bool WorkCounter::decides(const spec::Weight& weight) const {
  switch (weight.role) {
    case Role::Router:
    case Role::AttentionRouter:
    case Role::GateDown:
    case Role::GateLeaf:
    case Role::GruInput:
    case Role::GruState:
      return true;
    default:
      return weight.layer == spec_.num_layers;
  }
}

WorkCounter::WorkCounter(const format::ModelFile& file, const kernel::Compute& compute)
    : spec_(file.spec()),
      layers_(static_cast<size_t>(spec_.attention_layers())) {
  const auto place = [&](const spec::Weight& weight) -> Matrices& {
    if (weight.layer < 0) return head_;
    Layer& layer = layers_[static_cast<size_t>(weight.layer)];
    if (spec::is_attention_expert(weight.role)) return layer.attention_expert;
    return spec::is_expert(weight.role) ? layer.expert[static_cast<size_t>(*spec::kind_of(weight.role))] : layer.dense;
  };
  for (spec::Weight weight : spec::weights_of(spec_, false)) {
    if (spec::is_expert(weight.role)) weight.expert = 0;
    const std::vector<int64_t> shape = spec::shape_of(spec_, weight.role, weight.layer);
    double elements = static_cast<double>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>()));
    if (spec::is_attention_expert(weight.role)) elements /= static_cast<double>(shape[0]);
    const ElementType type = file.type_of(weight);
    const double bytes = elements / static_cast<double>(spec::info(type).block_elements) * static_cast<double>(spec::info(type).block_bytes);
    if (weight.role == Role::Embedding) {
      embedding_row_bytes_ = bytes / static_cast<double>(shape[0]);
      if (!spec_.tied_embeddings) continue;
    }
    Matrices& matrices = place(weight);
    matrices.bytes += bytes;
    if (shape.size() < 2) continue;
    const Unit unit = decides(weight) ? Unit::F32 : unit_for(compute, type);
    matrices.operations[static_cast<size_t>(unit)] += 2.0 * elements;
  }
}

void WorkCounter::add(const Matrices& matrices, double tokens) {
  work_.weight_bytes += matrices.bytes;
  for (size_t unit = 0; unit < kUnits; ++unit) work_.operations[unit] += tokens * matrices.operations[unit];
}

// Nobody tells which ones were visited: of bytes, as many experts as there are visits, at most all.
void WorkCounter::add_attention_experts(double tokens) {
  const double visits = tokens * spec_.attention.experts->experts_per_token;
  const double read = std::min<double>(visits, spec_.attention.experts->num_experts);
  for (const Layer& layer : layers_) {
    work_.weight_bytes += read * layer.attention_expert.bytes;
    for (size_t unit = 0; unit < kUnits; ++unit) work_.operations[unit] += visits * layer.attention_expert.operations[unit];
  }
}

void WorkCounter::add_step(std::span<const model::Chunk> chunks) {
  double tokens = 0;
  for (const model::Chunk& chunk : chunks) tokens += static_cast<double>(chunk.tokens.size());
  work_.steps += 1;
  work_.weight_bytes += tokens * embedding_row_bytes_;
  for (const Layer& layer : layers_) add(layer.dense, tokens);
  if (spec_.attention.experts) add_attention_experts(tokens);
  add(head_, static_cast<double>(chunks.size()));

  const spec::AttentionSpec& attention = spec_.attention;
  for (int layer = 0; layer < spec_.attention_layers(); ++layer) {
    const size_t window = attention.window(layer) > 0 ? static_cast<size_t>(attention.window(layer)) : SIZE_MAX;
    for (const model::Chunk& chunk : chunks) {
      const size_t before = chunk.cache->length(), after = before + chunk.tokens.size();
      double seen = 0;
      for (size_t t = before; t < after; ++t) seen += static_cast<double>(std::min(t + 1, window));
      const kernel::KvType type = chunk.cache->options().type;
      const Unit unit = type == kernel::KvType::F32 ? Unit::F32 : Unit::Bf16;
      work_.operations[static_cast<size_t>(unit)] += seen * attention_operations(attention);
      const size_t first = before - std::min(before, window - 1);  // that the chunk's first token looks at
      work_.cache_bytes += static_cast<double>(after - first) * cache_bytes_per_token(attention, type);
    }
  }
}

void WorkCounter::add_routing(int layer, const moe::Routing& routing) {
  std::vector<double> visits_E(static_cast<size_t>(routing.num_experts), 0);
  for (const int32_t expert : routing.experts_N) ++visits_E[static_cast<size_t>(expert)];
  work_.sparse_layers += 1;
  for (size_t e = 0; e < visits_E.size(); ++e) {
    if (visits_E[e] == 0) continue;
    const spec::ExpertKind kind = spec::place_of(spec_, layer, static_cast<int>(e)).kind;
    work_.experts += 1;
    add(layers_[static_cast<size_t>(layer)].expert[static_cast<size_t>(kind)], visits_E[e]);
  }
}

Bound bound_of(const Work& work, const Limits& limits) {
  Bound bound{.memory_seconds = work.bytes() / limits.read_bandwidth};
  double longest = 0;
  for (size_t unit = 0; unit < kUnits; ++unit) {
    const double seconds = work.operations[unit] / limits.operations[unit];
    bound.arithmetic_seconds += seconds;
    if (seconds > longest) bound.unit = static_cast<Unit>(unit), longest = seconds;
  }
  if (work.disk_bytes > 0) bound.disk_seconds = work.disk_bytes / limits.disk_bandwidth;
  return bound;
}

}  // namespace moiety::bench
