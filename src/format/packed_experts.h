// Experts as `moiety pack` writes them into a GGUF file: each matrix by itself, a slab, in the layout that kernels compute with
// (spec/packed_layout.h), on pages of its own. docs/pack.md describes the file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "spec/weight.h"

namespace moiety::format {

inline constexpr int64_t kPackVersion = 1, kPlanesVersion = 2;  // of files whose experts lie in planes
inline constexpr size_t kSlabAlignment = 4096;  // of slabs in the file, and so in its map

// The keys of the metadata. Lists have a number a slab: by layer, expert, then gate, up, down.
inline constexpr const char* kPackVersionKey = "moiety.pack.version";
struct PackKeys {
  const char *types, *checksums;
};

// What a file may have of every expert: the expert, perhaps a second time in fewer bits; or, all in Q8_0, its two planes, of which
// the upper one is an expert in fewer bits (kernel/planes.h).
enum class PackedCopy { First, Low, Upper, Lower };
inline constexpr PackedCopy kPackedCopies[] = {PackedCopy::First, PackedCopy::Low, PackedCopy::Upper, PackedCopy::Lower};
PackKeys keys_of(PackedCopy copy);  // planes have the types of what they make up
// The type that a slab's type is a plane of, or that type itself.
spec::ElementType whole_type(spec::ElementType type);

struct PackedSlab {
  spec::ElementType type = spec::ElementType::F32;
  size_t rows = 0, cols = 0;
  // Packed; row by row where the type has no packed form. They begin at a page, and go up to the next one with zeros.
  std::span<const std::byte> bytes;
  uint64_t checksum = 0;  // slab_checksum of the bytes as they were written
  FilePlace place;
};

// XXH3, 64 bits.
uint64_t slab_checksum(std::span<const std::byte> bytes);

// Nothing: such a matrix can't be a slab.
std::optional<size_t> slab_bytes(spec::ElementType type, size_t rows, size_t cols);

// "blk.3.ffn_gate.17", of an expert's matrix; as a tensor it is called ….packed, ….low, ….upper or ….lower.
std::string slab_name(const spec::Weight& weight);
std::string slab_name(const spec::Weight& weight, PackedCopy copy);

// All slabs of a file.
class PackedExperts {
 public:
  // Whether a file with this metadata has packed experts.
  static bool are_in(const GgufMetadata& metadata) { return metadata.has(kPackVersionKey); }

  // Throws Error(Input) unless every matrix of every expert has the slab that `spec` calls for, and an expert's follow one
  // another from page to page.
  PackedExperts(const GgufFile& file, const spec::ModelSpec& spec);

  bool has(PackedCopy copy) const { return !slabs_[static_cast<size_t>(copy)].empty(); }
  bool are_in_planes() const { return has(PackedCopy::Upper); }
  // Who is computed with instead of an expert in low precision.
  std::optional<PackedCopy> low_copy() const;
  // `weight` is an expert's matrix, and the file has this of it.
  const PackedSlab& slab(const spec::Weight& weight, PackedCopy copy) const;

 private:
  void read_types(const GgufMetadata& metadata, const spec::ModelSpec& spec, PackedCopy copy);
  void find_bytes(const GgufFile& file, const spec::ModelSpec& spec);
  size_t number_of(const spec::Weight& weight) const;

  size_t experts_ = 0;                   // a layer
  std::vector<size_t> sparse_before_L_;  // layers with experts before each layer
  std::vector<PackedSlab> slabs_[std::size(kPackedCopies)];
};

}  // namespace moiety::format
