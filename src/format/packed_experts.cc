#include "format/packed_experts.h"

#include <xxhash.h>

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "spec/packed_layout.h"

namespace moiety::format {
namespace {

using spec::ElementType;
using spec::kExpertMatrices;
using spec::Role;
using spec::Weight;

constexpr int64_t kMostElements = int64_t{1} << 48;

const char* ending(PackedCopy copy) { return copy == PackedCopy::First ? ".packed" : ".low"; }

size_t whole_pages(size_t bytes) { return (bytes + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment; }

bool is_slab(const TensorView& tensor) {
  return tensor.type == ElementType::I8 && tensor.name.starts_with("blk.") &&
         (tensor.name.ends_with(ending(PackedCopy::First)) || tensor.name.ends_with(ending(PackedCopy::Low)));
}

}  // namespace

uint64_t slab_checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::optional<size_t> slab_bytes(ElementType type, size_t rows, size_t cols) {
  const auto& info = spec::info(type);
  if (!info.is_weight || info.has_scales || cols % info.block_elements != 0) return std::nullopt;
  if (const spec::PackedLayout* layout = spec::packed_layout(type)) return layout->bytes(rows, cols);
  return rows * spec::bytes_of(type, cols);
}

std::string slab_name(const Weight& weight) {
  const char* matrix = weight.role == Role::ExpertGate ? ".ffn_gate." : weight.role == Role::ExpertUp ? ".ffn_up." : ".ffn_down.";
  return "blk." + std::to_string(weight.layer) + matrix + std::to_string(weight.expert);
}

std::string slab_name(const Weight& weight, PackedCopy copy) { return slab_name(weight) + ending(copy); }

PackedExperts::PackedExperts(const GgufFile& file, const spec::ModelSpec& spec)
    : experts_(static_cast<size_t>(spec.moe.router.num_experts)) {
  const GgufMetadata& metadata = file.metadata();
  const std::string& where = metadata.where;
  const int64_t version = metadata.integer(kPackVersionKey);
  require(version == kPackVersion, "{}: experts packed in version {} of the form, this moiety reads version {}: {}", where, version,
          kPackVersion, version > kPackVersion ? "take a newer moiety or pack the model again" : "pack the model again");
  const int64_t alignment = metadata.has("general.alignment") ? metadata.integer("general.alignment") : 0;
  require(alignment > 0 && alignment % static_cast<int64_t>(kSlabAlignment) == 0,
          "{}: general.alignment is {}, packed experts want a multiple of {}", where, alignment, kSlabAlignment);
  require(file.maps().size() <= 1, "{}: packed experts in a file of several parts, expected one", where);
  require(int64_t{spec.moe.expert_hidden} * spec.width < kMostElements, "{}: experts of {} x {} are too large", where,
          spec.moe.expert_hidden, spec.width);

  size_t sparse = 0;
  for (const spec::FeedForward kind : spec.feed_forward) {
    sparse_before_L_.push_back(sparse);
    sparse += kind == spec::FeedForward::Moe;
  }
  first_ = read_types(metadata, spec, kFirstKeys);
  if (metadata.has(kLowKeys.types)) low_ = read_types(metadata, spec, kLowKeys);
  find_bytes(file, spec);
}

// All slabs, but where they lie.
std::vector<PackedSlab> PackedExperts::read_types(const GgufMetadata& metadata, const spec::ModelSpec& spec, const PackKeys& keys) {
  const size_t experts = static_cast<size_t>(spec.moe_layers()) * static_cast<size_t>(spec.moe.router.num_experts);
  const size_t wanted = experts * std::size(kExpertMatrices);
  const std::vector<int64_t>& types = metadata.integers(keys.types);
  const std::vector<uint64_t> checksums = metadata.hashes(keys.checksums);
  require(types.size() == wanted && checksums.size() == wanted,
          "{}: metadata {} has {} numbers and {} has {}, expected one for each of {} matrices of experts", metadata.where,
          keys.types, types.size(), keys.checksums, checksums.size(), wanted);
  std::vector<int64_t> shapes[std::size(kExpertMatrices)];
  for (size_t m = 0; m < std::size(kExpertMatrices); ++m) shapes[m] = spec::shape_of(spec, kExpertMatrices[m]);
  std::vector<PackedSlab> slabs(wanted);
  for (size_t i = 0; i < wanted; ++i) {
    const uint32_t id = types[i] < 0 || types[i] > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(types[i]);
    const auto type = spec::from_ggml_id(id);
    const bool is_known = type.has_value() && spec::info(*type).is_weight;
    require(is_known, "{}: metadata {} has type {} at place {}, which is none that moiety computes with ({})",
            metadata.where, keys.types, types[i], i, is_known ? "" : spec::weight_type_names());
    const auto& shape = shapes[i % std::size(kExpertMatrices)];
    slabs[i] = {*type, static_cast<size_t>(shape[0]), static_cast<size_t>(shape[1]), {}, checksums[i], {}};
  }
  return slabs;
}

// The slabs among the tensors, in the order in which they were written.
void PackedExperts::find_bytes(const GgufFile& file, const spec::ModelSpec& spec) {
  const std::string& where = file.metadata().where;
  const std::byte* const base = file.maps().empty() ? nullptr : file.maps()[0].bytes().data();
  auto next = file.tensors().begin();
  const auto end = file.tensors().end();
  const std::byte* after_last = nullptr;  // of the same expert
  const auto find = [&](const Weight& weight, PackedCopy copy) {
    const std::string name = slab_name(weight, copy);
    next = std::find_if(next, end, is_slab);
    require(next != end, "{}: tensor {} is missing", where, name);
    const TensorView& tensor = *next++;
    require(tensor.name == name, "{}: tensor {} lies where {} should", where, tensor.name, name);
    PackedSlab& slab = (copy == PackedCopy::First ? first_ : low_)[number_of(weight)];
    const auto bytes = slab_bytes(slab.type, slab.rows, slab.cols);
    require(bytes.has_value(), "{}: tensor {}: rows of {} numbers are no whole blocks of {}", where, name, slab.cols,
            spec::name(slab.type));
    require(bytes == tensor.bytes.size() && tensor.shape.size() == 1,
            "{}: tensor {} has {} bytes, but {} x {} numbers of {} take {}", where, name, tensor.bytes.size(), slab.rows, slab.cols,
            spec::name(slab.type), *bytes);
    require(after_last == nullptr || tensor.bytes.data() == after_last, "{}: tensor {} does not follow the one before it", where,
            name);
    after_last = tensor.bytes.data() + whole_pages(*bytes);
    slab.bytes = tensor.bytes;
    if (base != nullptr) slab.place.offset = static_cast<uint64_t>(tensor.bytes.data() - base);
  };
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    const bool is_sparse = spec.feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Moe;
    for (int expert = 0; is_sparse && expert < spec.moe.router.num_experts; ++expert) {
      after_last = nullptr;
      for (const Role role : kExpertMatrices) find({role, layer, expert}, PackedCopy::First);
      for (const Role role : kExpertMatrices) {
        if (has_low()) find({role, layer, expert}, PackedCopy::Low);
      }
    }
  }
  next = std::find_if(next, end, is_slab);
  require(next == end, "{}: tensor {} is of no expert that the model has", where, next->name);
}

size_t PackedExperts::number_of(const Weight& weight) const {
  assert(spec::is_expert_matrix(weight.role) && weight.layer >= 0 && weight.expert >= 0);
  const size_t expert = sparse_before_L_[static_cast<size_t>(weight.layer)] * experts_ + static_cast<size_t>(weight.expert);
  return expert * std::size(kExpertMatrices) + static_cast<size_t>(weight.role) - static_cast<size_t>(Role::ExpertGate);
}

const PackedSlab& PackedExperts::slab(const Weight& weight, PackedCopy copy) const {
  assert(copy == PackedCopy::First || has_low());
  return (copy == PackedCopy::First ? first_ : low_)[number_of(weight)];
}

}  // namespace moiety::format
