#include "format/convert.h"

#include <numeric>
#include <set>

#include "base/error.h"
#include "format/gguf_config.h"

namespace moiety::format {

using spec::ElementType;
using spec::Role;
using spec::RopePairs;
using spec::Weight;

std::vector<int64_t> row_order(int64_t rows, int64_t head_dim, int64_t dim, RopePairs from, RopePairs to) {
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  if (from == to) return order;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim * head_dim, i = row % head_dim, half = dim / 2;
    if (i < dim) order[row] = head + (to == RopePairs::Neighbours ? i / 2 + i % 2 * half : i % half * 2 + i / half);
  }
  return order;
}

bool is_rotated(Role role) {
  return role == Role::Query || role == Role::Key || role == Role::QueryBias || role == Role::KeyBias;
}

namespace {

void add_rows(const TensorView& tensor, const std::vector<int64_t>& order, std::vector<TensorView>& parts) {
  const int64_t cols = tensor.elements() / static_cast<int64_t>(order.size());
  const size_t row_bytes = tensor.bytes.size() / order.size();
  for (const int64_t row : order) {
    TensorView part{tensor.name, tensor.type, {1, cols}, tensor.bytes.subspan(row * row_bytes, row_bytes)};
    part.scales = tensor.scales;
    if (part.scales.data != nullptr) {
      part.scales.data = tensor.scales.row(static_cast<size_t>(row));
      part.scales.block_rows = 1;
    }
    parts.push_back(std::move(part));
  }
}

struct Target {
  const WeightNames& names;
  RopePairs rope_pairs;
  bool is_gguf;
  std::optional<ElementType> type;
  bool expert_matrices = true;
};

// A type that such files have and that holds the same numbers (FP8 under its scales nearly so).
ElementType writable(ElementType type, bool is_gguf) {
  if (type == ElementType::MXFP4_PLANES) return is_gguf ? ElementType::MXFP4 : ElementType::BF16;
  if (type == ElementType::F8_E4M3 || (type == ElementType::MXFP4 && !is_gguf)) return ElementType::BF16;
  if (!is_gguf && spec::info(type).safetensors_name.empty()) return ElementType::F32;
  return type;
}

// Blocks must fill rows; what doesn't fit goes out as f16, as llama.cpp's own tools do.
ElementType type_for(const Target& target, const TensorView& tensor, Role role) {
  const bool is_matrix = tensor.shape.size() >= 2 && tensor.shape[0] > 1;
  if (target.is_gguf && (!is_matrix || role == Role::Router)) return ElementType::F32;
  if (role == Role::SelectionBias) return ElementType::F32;
  const ElementType type = writable(target.type.value_or(tensor.type), target.is_gguf);
  if (!is_matrix && spec::info(type).block_elements > 1) return ElementType::F32;
  const size_t cols = static_cast<size_t>(tensor.shape.back());
  return cols % spec::info(type).block_elements == 0 ? type : ElementType::F16;
}

// Of the rows of a role, the one that is written.
const WeightName& row_to_write(const WeightNames& names, Role role, const ModelFile& model) {
  for (const WeightName* row : names.rows(role)) {
    if (!has_planes(row->layout)) return *row;
  }
  fail(ErrorKind::Input, "{}: this architecture has no place for a tensor that the model has", model.path().string());
}

// The tensor that holds this weight, and perhaps others.
TensorSource convert_one(const ModelFile& model, const Target& target, const Weight& weight) {
  const spec::ModelSpec& spec = model.spec();
  const WeightName& row = row_to_write(target.names, weight.role, model);
  const bool stack = is_stack(row);
  const auto one = [&](int expert) { return model.weight({weight.role, weight.layer, stack ? expert : weight.expert}); };
  const TensorView first = one(0);

  TensorSource out;
  out.name = name_of(row, weight);
  out.shape = stored_shape(spec, weight.role, row.layout, weight.layer);
  out.type = type_for(target, first, weight.role);
  const int pieces = stack ? spec.experts(weight.layer) : 1;
  if (stack) out.shape.insert(out.shape.begin(), pieces);
  for (int expert = 0; expert < pieces; ++expert) {
    if (row.layout != Layout::Plain) {
      out.made.push_back([&model, weight, expert, layout = row.layout] {
        return join_weights(model.spec(), weight.role, layout,
                            [&](Role role) { return model.weight({role, weight.layer, is_expert(role) ? expert : -1}); });
      });
    } else if (is_rotated(weight.role) && spec.attention.rope.pairs != target.rope_pairs) {
      require(!spec.attention.latent, "{}: its latent attention rotates other pairs than the architecture it is written as",
              model.path().string());
      add_rows(first, row_order(first.shape[0], spec.attention.head_dim, spec.attention.rope_dim(),
                                spec.attention.rope.pairs, target.rope_pairs), out.parts);
    } else {
      out.parts.push_back(one(expert));
    }
  }
  return out;
}

// Numbers that the model has without a tensor of their own.
TensorSource from_numbers(std::string name, std::vector<float> numbers) {
  TensorSource out;
  out.name = std::move(name);
  out.shape = {static_cast<int64_t>(numbers.size())};
  out.made.push_back([numbers = std::move(numbers)] { return numbers; });
  return out;
}

// Biases that the family's files always have and the model does without.
void add_zero_biases(const spec::ModelSpec& spec, const Family& family, const Target& target,
                     const std::set<std::pair<Role, int>>& had, std::vector<TensorSource>& out) {
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    for (const Role role : family.always_has) {
      const bool has_place = role != Role::SelectionBias || spec.feed_forward[layer] == spec::FeedForward::Moe;
      if (!has_place || had.contains({role, layer})) continue;
      const size_t size = static_cast<size_t>(spec::shape_of(spec, role)[0]);
      out.push_back(from_numbers(name_of(*target.names.rows(role).front(), {role, layer}), std::vector<float>(size)));
    }
  }
}

// llama.cpp takes these kinds of scaling as divisors of the frequencies.
void add_rope_factors(const spec::AttentionSpec& attention, std::vector<TensorSource>& out) {
  using enum spec::RopeScalingKind;
  const spec::RopeScaling& scaling = attention.rope.scaling;
  if (scaling.kind != Llama3 && scaling.kind != Factors) return;
  require(scaling.kind == Llama3 || (scaling.short_factors == scaling.long_factors && scaling.amplitude == 1),
          "a GGUF file can't hold rope factors that differ with the length of the context");
  const std::vector<float> scaled = spec::frequencies(attention.rope, attention.rope_dim(), false);
  std::vector<float> plain = spec::frequencies({.theta = attention.rope.theta}, attention.rope_dim(), false);
  for (size_t i = 0; i < plain.size(); ++i) plain[i] /= scaled[i];
  out.push_back(from_numbers(kRopeFactors, std::move(plain)));
}

std::vector<TensorSource> convert_all(const ModelFile& model, const Family& family, const Target& target) {
  const spec::ModelSpec& spec = model.spec();
  const bool each_expert = spec.moe_layers() > 0 && !target.names.stacks_experts();
  std::vector<TensorSource> out;
  std::set<std::pair<Role, int>> had;
  for (const Weight& weight : spec::weights_of(spec, each_expert)) {
    had.insert({weight.role, weight.layer});
    if (!target.expert_matrices && spec::is_expert_matrix(weight.role)) continue;
    if (!is_first_in_tensor(row_to_write(target.names, weight.role, model).layout)) continue;
    out.push_back(convert_one(model, target, weight));
  }
  add_zero_biases(spec, family, target, had, out);
  if (target.is_gguf) add_rope_factors(spec.attention, out);
  return out;
}

}  // namespace

std::vector<TensorSource> hf_tensors(const ModelFile& model, const Family& family, std::optional<ElementType> type) {
  return convert_all(model, family, {family.hf.names, family.hf.rope_pairs, false, type});
}

std::vector<TensorSource> gguf_tensors(const ModelFile& model, const Family& family, std::optional<ElementType> type) {
  return convert_all(model, family, {family.gguf.names, family.gguf.rope_pairs, true, type});
}

std::vector<TensorSource> dense_gguf_tensors(const ModelFile& model, const Family& family) {
  return convert_all(model, family, {family.gguf.names, family.gguf.rope_pairs, true, std::nullopt, false});
}

ElementType gguf_type(ElementType type) { return writable(type, true); }

ElementType main_type(const ModelFile& model, bool is_gguf) {
  const Role role = model.spec().attention.experts ? Role::AttentionExpertOutput : Role::AttentionOutput;
  return writable(model.weight({role, 0}).type, is_gguf);
}

}  // namespace moiety::format
