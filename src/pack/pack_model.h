// A whole model as a packed file: a GGUF file in which experts lie as they are computed with (docs/pack.md).
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "format/importance.h"
#include "format/model_file.h"
#include "format/quantize_plan.h"

namespace moiety::pack {

// A slab to be written.
struct PlannedSlab {
  spec::Weight weight;
  format::PackedCopy copy = format::PackedCopy::First;
  spec::ElementType from = spec::ElementType::F32, to = spec::ElementType::F32;
  std::optional<spec::ElementType> wanted;  // where rows are not whole blocks of it, `to` is another one
  size_t bytes = 0;
};

// What of every expert is written.
struct Copies {
  std::optional<spec::ElementType> low = {};  // a second copy of that type
  bool in_planes = false;                     // instead of the first one, its planes
};

// Every slab in the order of the file. An expert keeps its type (as GGUF has it, format::gguf_type) but where one of `wishes` is
// found in a matrix's slab_name(weight), of several the last one. Throws Error(Usage) for a wish that fits nothing, Error(Input) for a
// model that is packed already or has no experts, or whose experts have no planes.
std::vector<PlannedSlab> plan_slabs(const format::ModelFile& model, std::span<const format::TypeWish> wishes,
                                    const Copies& copies = {});

struct Packer {
  ThreadPool& threads;
  const format::Importance* importance = nullptr;                  // of columns, where numbers are fitted to another type
  std::function<void(size_t done, size_t all)> progress = {};      // bytes

  // Writes the file, atomically and a slab at a time; `metadata` is what its GGUF form without packing would have. Throws
  // Error(Input) if a weight is a NaN or an infinity.
  void write(const fs::path& path, const format::ModelFile& model, format::GgufMetadata metadata,
             std::span<const PlannedSlab> plan) const;
};

// The name of the first slab whose bytes are not those that were written, or nothing. `file` is a packed one.
std::optional<std::string> find_broken_slab(const format::ModelFile& file, ThreadPool& threads,
                                            const std::function<void(size_t done, size_t all)>& progress = {});

}  // namespace moiety::pack
