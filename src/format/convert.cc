#include "format/convert.h"

#include <numeric>
#include <set>

#include "base/error.h"

namespace moiety::format {
namespace {

using spec::ElementType;
using spec::Role;
using spec::RopePairs;
using spec::Weight;

// Which row of a query or key matrix goes where, so that `to` pairs turn what `from` pairs turned. Each head of d rows:
// pair i is rows (i, i + d/2) as halves and (2i, 2i + 1) as neighbours.
std::vector<int64_t> row_order(int64_t rows, int64_t head_dim, RopePairs from, RopePairs to) {
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  if (from == to) return order;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim * head_dim, i = row % head_dim, half = head_dim / 2;
    order[row] = head + (to == RopePairs::Neighbours ? i / 2 + i % 2 * half : i % half * 2 + i / half);
  }
  return order;
}

bool is_rotated(Role role) {
  return role == Role::Query || role == Role::Key || role == Role::QueryBias || role == Role::KeyBias;
}

void add_rows(const TensorView& tensor, const std::vector<int64_t>& order, std::vector<TensorView>& parts) {
  const size_t row_bytes = tensor.bytes.size() / order.size();
  const int64_t cols = tensor.elements() / static_cast<int64_t>(order.size());
  for (const int64_t row : order) {
    parts.push_back({tensor.name, tensor.type, {cols}, tensor.bytes.subspan(row * row_bytes, row_bytes)});
  }
}

struct Target {
  const WeightNames& names;
  RopePairs rope_pairs;
  bool is_gguf;
  std::optional<ElementType> type;
};

// Blocks must fill rows; what doesn't fit goes out as f16, as llama.cpp's own tools do.
ElementType type_for(const Target& target, const TensorView& tensor, Role role) {
  const bool is_matrix = tensor.shape.size() == 2 && tensor.shape[0] > 1;
  if (target.is_gguf && (!is_matrix || role == Role::Router)) return ElementType::F32;
  if (role == Role::SelectionBias) return ElementType::F32;
  ElementType type = target.type.value_or(tensor.type);
  if (!target.is_gguf && spec::info(type).safetensors_name.empty()) type = ElementType::F32;
  if (!is_matrix && spec::info(type).block_elements > 1) return ElementType::F32;
  const size_t cols = static_cast<size_t>(tensor.shape.back());
  return cols % spec::info(type).block_elements == 0 ? type : ElementType::F16;
}

TensorSource convert_one(const ModelFile& model, const Target& target, const Weight& weight) {
  const spec::ModelSpec& spec = model.spec();
  const bool stack = spec::is_expert(weight.role) && weight.expert < 0;
  const TensorView first = model.weight(stack ? Weight{weight.role, weight.layer, 0} : weight);

  TensorSource out;
  out.name = target.names.name(weight);
  require(!out.name.empty(), "this architecture has no place for a tensor that the model has ({})", first.name);
  out.shape = first.shape;
  out.type = type_for(target, first, weight.role);
  if (stack) {
    out.shape.insert(out.shape.begin(), spec.moe.router.num_experts);
    for (int expert = 0; expert < spec.moe.router.num_experts; ++expert) {
      out.parts.push_back(model.weight({weight.role, weight.layer, expert}));
    }
  } else if (is_rotated(weight.role) && spec.attention.rope_pairs != target.rope_pairs) {
    add_rows(first, row_order(first.shape[0], spec.attention.head_dim, spec.attention.rope_pairs, target.rope_pairs),
             out.parts);
  } else {
    out.parts.push_back(first);
  }
  return out;
}

// A bias that the family's files always have and the model does without.
TensorSource zero_bias(const spec::ModelSpec& spec, const Target& target, const Weight& weight) {
  static constexpr std::byte kZeros[1 << 16] = {};
  TensorSource bias;
  bias.name = target.names.name(weight);
  bias.shape = spec::shape_of(spec, weight.role);
  const size_t bytes = spec::bytes_of(ElementType::F32, bias.elements());
  require(bytes <= sizeof kZeros, "{}: a bias of {} bytes", bias.name, bytes);
  bias.parts.push_back({bias.name, ElementType::F32, bias.shape, std::span(kZeros).first(bytes)});
  return bias;
}

std::vector<TensorSource> convert_all(const ModelFile& model, const Family& family, const Target& target) {
  const spec::ModelSpec& spec = model.spec();
  std::vector<TensorSource> out;
  std::set<std::pair<Role, int>> had;
  for (const Weight& weight : spec::weights_of(spec, !target.names.stacks_experts())) {
    out.push_back(convert_one(model, target, weight));
    had.insert({weight.role, weight.layer});
  }
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    for (const Role role : family.always_has) {
      const bool has_place = role != Role::SelectionBias || spec.feed_forward[layer] == spec::FeedForward::Moe;
      if (has_place && !had.contains({role, layer})) out.push_back(zero_bias(spec, target, {role, layer}));
    }
  }
  return out;
}

}  // namespace

std::vector<TensorSource> hf_tensors(const ModelFile& model, const Family& family, std::optional<ElementType> type) {
  return convert_all(model, family, {family.hf_names, RopePairs::Halves, false, type});
}

std::vector<TensorSource> gguf_tensors(const ModelFile& model, const Family& family, std::optional<ElementType> type) {
  return convert_all(model, family, {family.gguf_names, family.gguf_rope_pairs, true, type});
}

ElementType main_type(const ModelFile& model) { return model.weight({Role::Query, 0}).type; }

}  // namespace moiety::format
