// The GGUF file, versions 2 and 3 (github.com/ggml-org/ggml, docs/gguf.md): typed metadata, a tensor directory, aligned data.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace moiety::format {

// A list whose elements are lists: passed over, for nothing that moiety knows has one.
struct GgufNestedList {
  uint64_t count = 0;
  friend bool operator==(const GgufNestedList&, const GgufNestedList&) = default;
};

// A metadata value. Integers of every width are int64 (a u64 beyond that is refused, but in a list makes all of it uint64),
// floats are double; lists hold one kind. The writer picks u32, f32, bool, string, and lists of i32, u64, f32, bool, string.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<uint64_t>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>, GgufNestedList>;

class GgufMetadata {
 public:
  // The typed readers throw Error(Input) naming file and key if the key is missing or of another kind.
  bool has(const std::string& key) const { return values_.contains(key); }
  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;  // an integer is a number too
  bool boolean(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  const std::vector<int64_t>& integers(const std::string& key) const;
  std::vector<uint64_t> hashes(const std::string& key) const;  // integers of which all 64 bits count
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

struct GgufContents {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<TensorView> tensors;  // they look into the bytes
};

// Checks every claim of the bytes of one file before it believes it: counts, lengths, offsets, overlaps, sizes. Throws
// Error(Input) that begins with `name`.
GgufContents parse_gguf(std::span<const std::byte> bytes, const std::string& name);

// A model in one file, or in the several of a split (NAME-00001-of-00003.gguf and so on), of which any one may be named:
// the metadata of the first part, the tensors of all.
class GgufFile {
 public:
  explicit GgufFile(const fs::path& path);
  // Of bytes that somebody else keeps; there are no parts.
  explicit GgufFile(GgufContents contents)
      : metadata_(std::move(contents.metadata)), tensors_(std::move(contents.tensors)) {}

  struct Part {
    fs::path path;
    uint32_t version = 0;
    size_t tensors = 0;
    size_t bytes = 0;
  };

  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // In the order of the split; one if there is none.
  const std::vector<Part>& parts() const { return parts_; }
  void done_with(std::span<const std::byte> bytes) const {
    for (const MappedFile& file : files_) file.done_with(bytes);
  }
  // The maps that tensors lie in, in the same order as parts().
  const std::vector<MappedFile>& maps() const { return files_; }

 private:
  GgufContents open(const fs::path& path);
  void add(const fs::path& path, GgufContents contents);

  std::vector<MappedFile> files_;
  std::vector<Part> parts_;
  GgufMetadata metadata_;
  std::vector<TensorView> tensors_;
};

// Appends a tensor's bytes to the file.
using WriteTensor = std::function<void(AtomicFile& file, const TensorSource& tensor)>;

// Values that are known only when all tensors are written. They take as many bytes as what they replace.
using FinishMetadata = std::function<void(GgufMetadata& metadata)>;

// Writes atomically; `write` instead of write_elements (format/elements.h) if given. Tensors begin at multiples of the metadata's
// general.alignment, 32 if it has none.
void write_gguf(const fs::path& path, GgufMetadata metadata, const std::vector<TensorSource>& tensors,
                const WriteTensor& write = {}, const FinishMetadata& finish = {});

}  // namespace moiety::format
