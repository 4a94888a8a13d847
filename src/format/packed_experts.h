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

inline constexpr int64_t kPackVersion = 1;
inline constexpr size_t kSlabAlignment = 4096;  // of slabs in the file, and so in its map

// The keys of the metadata. Lists have a number a slab: by layer, expert, then gate, up, down.
inline constexpr const char* kPackVersionKey = "moiety.pack.version";
struct PackKeys {
  const char *types, *checksums;
};
inline constexpr PackKeys kFirstKeys{"moiety.pack.types", "moiety.pack.checksums"};
inline constexpr PackKeys kLowKeys{"moiety.pack.low_types", "moiety.pack.low_checksums"};

// A file may have every expert twice, the second time in fewer bits.
enum class PackedCopy { First, Low };

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

// "blk.3.ffn_gate.17", of an expert's matrix; as a tensor it is called ….packed or ….low.
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

  bool has_low() const { return !low_.empty(); }
  // `weight` is an expert's matrix. The low copy only if there is one.
  const PackedSlab& slab(const spec::Weight& weight, PackedCopy copy) const;

 private:
  static std::vector<PackedSlab> read_types(const GgufMetadata& metadata, const spec::ModelSpec& spec, const PackKeys& keys);
  void find_bytes(const GgufFile& file, const spec::ModelSpec& spec);
  size_t number_of(const spec::Weight& weight) const;

  size_t experts_ = 0;                   // a layer
  std::vector<size_t> sparse_before_L_;  // layers with experts before each layer
  std::vector<PackedSlab> first_, low_;
};

}  // namespace moiety::format
