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

// In the order of the enumeration.
struct CopyInFile {
  const char* ending;  // of its tensors' names
  PackKeys keys;
};
constexpr CopyInFile kCopies[] = {{".packed", {"moiety.pack.types", "moiety.pack.checksums"}},
                                  {".low", {"moiety.pack.low_types", "moiety.pack.low_checksums"}},
                                  {".upper", {"moiety.pack.types", "moiety.pack.upper_checksums"}},
                                  {".lower", {"moiety.pack.types", "moiety.pack.lower_checksums"}}};
const char* ending(PackedCopy copy) { return kCopies[static_cast<size_t>(copy)].ending; }

size_t whole_pages(size_t bytes) { return (bytes + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment; }

bool is_slab(const TensorView& tensor) {
  return tensor.type == ElementType::I8 && tensor.name.starts_with("blk.") &&
         std::ranges::any_of(kPackedCopies, [&](PackedCopy copy) { return tensor.name.ends_with(ending(copy)); });
}

}  // namespace

uint64_t slab_checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::optional<size_t> slab_bytes(ElementType type, size_t rows, size_t cols) {
  const auto& info = spec::info(type);
  const spec::PackedLayout* const layout = spec::packed_layout(type);
  if ((!info.is_weight && layout == nullptr) || info.has_scales || cols % info.block_elements != 0) return std::nullopt;
  return layout != nullptr ? layout->bytes(rows, cols) : rows * spec::bytes_of(type, cols);
}

PackKeys keys_of(PackedCopy copy) { return kCopies[static_cast<size_t>(copy)].keys; }

ElementType whole_type(ElementType type) {
  return type == ElementType::Q8_0_UPPER || type == ElementType::Q8_0_LOWER ? ElementType::Q8_0 : type;
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
  require(version == kPackVersion || version == kPlanesVersion,
          "{}: experts packed in version {} of the form, this moiety reads versions {} and {}: {}", where, version, kPackVersion,
          kPlanesVersion, version > kPlanesVersion ? "take a newer moiety or pack the model again" : "pack the model again");
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
  const bool in_planes = version == kPlanesVersion;
  read_types(metadata, spec, in_planes ? PackedCopy::Upper : PackedCopy::First);
  if (in_planes) read_types(metadata, spec, PackedCopy::Lower);
  else if (metadata.has(keys_of(PackedCopy::Low).types)) read_types(metadata, spec, PackedCopy::Low);
  find_bytes(file, spec);
}

// All slabs, but where they lie.
void PackedExperts::read_types(const GgufMetadata& metadata, const spec::ModelSpec& spec, PackedCopy copy) {
  const PackKeys keys = keys_of(copy);
  const size_t experts = static_cast<size_t>(spec.moe_layers()) * static_cast<size_t>(spec.moe.router.num_experts);
  const size_t wanted = experts * std::size(kExpertMatrices);
  const std::vector<int64_t>& types = metadata.integers(keys.types);
  const std::vector<uint64_t> checksums = metadata.hashes(keys.checksums);
  require(types.size() == wanted && checksums.size() == wanted,
          "{}: metadata {} has {} numbers and {} has {}, expected one for each of {} matrices of experts", metadata.where,
          keys.types, types.size(), keys.checksums, checksums.size(), wanted);
  std::vector<int64_t> shapes[std::size(kExpertMatrices)];
  for (size_t m = 0; m < std::size(kExpertMatrices); ++m) shapes[m] = spec::shape_of(spec, kExpertMatrices[m]);
  std::vector<PackedSlab>& slabs = slabs_[static_cast<size_t>(copy)];
  slabs.resize(wanted);
  for (size_t i = 0; i < wanted; ++i) {
    const uint32_t id = types[i] < 0 || types[i] > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(types[i]);
    const auto type = spec::from_ggml_id(id);
    const bool is_known = type.has_value() && spec::info(*type).is_weight;
    require(is_known, "{}: metadata {} has type {} at place {}, which is none that moiety computes with ({})",
            metadata.where, keys.types, types[i], i, is_known ? "" : spec::weight_type_names());
    const bool is_plane = copy == PackedCopy::Upper || copy == PackedCopy::Lower;
    require(!is_plane || *type == ElementType::Q8_0, "{}: metadata {} has type {} at place {}, but planes are of Q8_0 alone",
            metadata.where, keys.types, spec::name(*type), i);
    const auto& shape = shapes[i % std::size(kExpertMatrices)];
    slabs[i] = {!is_plane ? *type : copy == PackedCopy::Upper ? ElementType::Q8_0_UPPER : ElementType::Q8_0_LOWER,
                static_cast<size_t>(shape[0]), static_cast<size_t>(shape[1]), {}, checksums[i], {}};
  }
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
    PackedSlab& slab = slabs_[static_cast<size_t>(copy)][number_of(weight)];
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
      for (const PackedCopy copy : kPackedCopies) {
        for (const Role role : kExpertMatrices) {
          if (has(copy)) find({role, layer, expert}, copy);
        }
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
  assert(has(copy));
  return slabs_[static_cast<size_t>(copy)][number_of(weight)];
}

std::optional<PackedCopy> PackedExperts::low_copy() const {
  if (are_in_planes()) return PackedCopy::Upper;
  return has(PackedCopy::Low) ? std::optional(PackedCopy::Low) : std::nullopt;
}

}  // namespace moiety::format
