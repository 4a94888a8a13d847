// The safetensors file: an 8-byte header length, a JSON header, then the tensors' bytes
// (github.com/huggingface/safetensors, README "Format").
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace moiety::format {

struct SafetensorsContents {
  std::vector<TensorView> tensors;  // they look into the bytes
  std::map<std::string, std::string> metadata;
};

// Checks every claim of a file's header: offsets inside the file, no overlap, sizes that fit dtype and shape. Throws
// Error(Input) that begins with `name` otherwise.
SafetensorsContents parse_safetensors(std::span<const std::byte> bytes, const std::string& name);

// The same, of a file that stays mapped.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);

  const std::vector<TensorView>& tensors() const { return contents_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return contents_.metadata; }
  void done_with(std::span<const std::byte> bytes) const { file_.done_with(bytes); }
  const MappedFile& map() const { return file_; }

 private:
  MappedFile file_;
  SafetensorsContents contents_;
};

// What stands before the tensors' bytes, and where these begin in the file; each ends where the next begins. Throws Error(Input), which
// begins with `name`, if a type has no name in the format.
struct SafetensorsHeader {
  std::string bytes;
  std::vector<size_t> begin_N;
};
SafetensorsHeader safetensors_header(const std::string& name, const std::vector<TensorSource>& tensors,
                                     const std::map<std::string, std::string>& metadata = {});

// Writes atomically, tensors in the order given. Throws Error(Input) if a type has no name in the format.
void write_safetensors(const fs::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const fs::path& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace moiety::format
