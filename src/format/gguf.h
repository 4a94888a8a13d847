// The GGUF file, version 3 (github.com/ggml-org/ggml, docs/gguf.md): typed metadata, a tensor directory, aligned data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace moiety::format {

// A metadata value. Integers of every width are int64 (a u64 beyond that is refused), floats are double; lists hold one
// kind. The writer picks u32, f32, bool, string, and lists of i32, f32, bool, string.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;

class GgufMetadata {
 public:
  // The typed readers throw Error(Input) naming file and key if the key is missing or of another kind.
  bool has(const std::string& key) const { return values_.contains(key); }
  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;  // an integer is a number too
  bool boolean(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  const std::vector<int64_t>& integers(const std::string& key) const;
  const std::vector<double>& numbers(const std::string& key) const;
  const std::vector<std::string>& texts(const std::string& key) const;

  void set(const std::string& key, GgufValue value);
  // In the order of the file.
  const std::vector<std::string>& keys() const { return keys_; }
  const GgufValue& value(const std::string& key) const;

  std::string where;  // the file's name, for errors

 private:
  template <class T>
  const T& get(const std::string& key, const char* kind) const;

  std::vector<std::string> keys_;
  std::map<std::string, GgufValue> values_;
};

// Maps the file and checks every claim before it believes it: counts, lengths, offsets, overlaps, sizes.
class GgufFile {
 public:
  explicit GgufFile(const fs::path& path);

  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<TensorView>& tensors() const { return tensors_; }

 private:
  MappedFile file_;
  GgufMetadata metadata_;
  std::vector<TensorView> tensors_;
};

// Writes atomically.
void write_gguf(const fs::path& path, const GgufMetadata& metadata, const std::vector<TensorSource>& tensors);

}  // namespace moiety::format
