// Any model on disk, opened: its spec, and its weights by role instead of by name.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "format/families.h"
#include "format/gguf.h"
#include "format/packed_experts.h"
#include "format/safetensors.h"
#include "spec/weight.h"

namespace moiety::format {

class ModelFile {
 public:
  // `path` is what resolve_model_path takes. Throws Error(Input) if a weight that the spec calls for is missing, has
  // another shape or is no weight type.
  explicit ModelFile(const fs::path& path);

  const fs::path& path() const { return path_; }
  const spec::ModelSpec& spec() const { return spec_; }
  // nullptr unless it is a GGUF file.
  const GgufFile* gguf() const { return gguf_.get(); }

  // Shape as spec::shape_of says. An expert is cut out of its stack where the file stacks them; scales that lie in a tensor
  // of their own come along. Not for two threads at once. Throws Error(Input) for an expert's matrix of a packed file.
  TensorView weight(const spec::Weight& weight) const;
  // The same; what has to be turned around for it goes to `owned` instead of staying as long as the file is open.
  TensorView weight(const spec::Weight& weight, OwnedBytes& owned) const;

  // The type that weight() has, or that the slab of a packed expert has.
  spec::ElementType type_of(const spec::Weight& weight) const;

  // The experts of a packed file (moiety pack); nullptr if it is none.
  const PackedExperts* packed() const { return packed_.get(); }
  // The slab of an expert's matrix. Nothing for other weights, in files that are not packed, and where there is no such copy
  // (in a file of planes the first one).
  std::optional<PackedSlab> packed_expert(const spec::Weight& weight, PackedCopy copy = PackedCopy::First) const;

  // Everything in the file(s), whatever it is for.
  const std::vector<TensorView>& tensors() const { return gguf_ ? gguf_->tensors() : tensors_; }
  std::vector<fs::path> files() const;

  // Where in those files a weight's bytes begin; nothing of what had to be copied when it was opened.
  using Place = FilePlace;
  std::optional<Place> place_of(const std::byte* bytes) const;

  // Lets the system take back the memory of a weight's bytes that were copied elsewhere (base/file.h).
  void done_with(std::span<const std::byte> bytes) const;

 private:
  // A weight's tensor, still as stored: of one expert, or of all.
  struct Stored {
    TensorView tensor;
    Layout layout;
    bool is_stack;
  };
  void open_folder();
  Stored find(const spec::Weight& weight) const;
  void add_scales(Stored& stored) const;
  spec::Scales fp8_scales(const TensorView& tensor, const TensorView& scales) const;
  void check_weights() const;

  fs::path path_;
  std::unique_ptr<GgufFile> gguf_;
  std::unique_ptr<PackedExperts> packed_;
  std::vector<SafetensorsFile> shards_;
  std::vector<fs::path> shard_paths_;
  spec::ModelSpec spec_;
  const WeightNames* names_ = nullptr;
  std::pair<int64_t, int64_t> fp8_block_{128, 128};  // rows and columns that share a scale
  std::vector<TensorView> tensors_;                           // of all shards
  std::unordered_map<std::string_view, const TensorView*> index_;  // tensors() by name
  mutable OwnedBytes owned_;                       // of weights that had to be turned around
  mutable std::map<std::tuple<spec::Role, int, int>, TensorView> cut_;  // those weights
  mutable std::unordered_map<std::string, spec::Scales> float_scales_;  // of tensors whose scales are no floats
};

}  // namespace moiety::format
