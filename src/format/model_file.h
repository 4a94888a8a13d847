// Any model on disk, opened: its spec, and its weights by role instead of by name.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "format/families.h"
#include "format/gguf.h"
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

  // Shape as spec::shape_of says. An expert is cut out of its stack where the file stacks them.
  TensorView weight(const spec::Weight& weight) const;

  // Everything in the file(s), whatever it is for.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  std::vector<fs::path> files() const;

 private:
  void open_folder();
  void check_weights() const;

  fs::path path_;
  std::unique_ptr<GgufFile> gguf_;
  std::vector<SafetensorsFile> shards_;
  std::vector<fs::path> shard_paths_;
  spec::ModelSpec spec_;
  const WeightNames* names_ = nullptr;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;  // name -> place in tensors_
};

}  // namespace moiety::format
