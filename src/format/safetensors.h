// The safetensors file: an 8-byte header length, a JSON header, then the tensors' bytes
// (github.com/huggingface/safetensors, README "Format").
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace moiety::format {

// Maps the file and checks every claim of its header: offsets inside the file, no overlap, sizes that fit dtype and
// shape. Throws Error(Input) otherwise. Views look into the map.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);

  const std::vector<TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Writes atomically, tensors in the order given. Throws Error(Input) if a type has no name in the format.
void write_safetensors(const fs::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const fs::path& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace moiety::format
