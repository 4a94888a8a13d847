#include <cassert>

#include "base/error.h"
#include "format/elements.h"
#include "format/gguf_kinds.h"

namespace moiety::format {
namespace {

// What is appended to the file before the data: numbers little-endian, strings with a length.
class HeaderWriter {
 public:
  template <class T>
  void put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_text(std::string_view text) {
    put<uint64_t>(text.size());
    text_.append(text);
  }
  void put_kind(GgufKind kind) { put(static_cast<uint32_t>(kind)); }

  // llama.cpp wants exact types: u32 and f32 for single numbers, i32 and f32 in lists.
  void operator()(int64_t value) {
    if (value >= 0 && value <= UINT32_MAX) {
      put_kind(GgufKind::U32), put(static_cast<uint32_t>(value));
    } else {
      put_kind(GgufKind::I64), put(value);
    }
  }
  void operator()(double value) { put_kind(GgufKind::F32), put(static_cast<float>(value)); }
  void operator()(bool value) { put_kind(GgufKind::Bool), put(static_cast<uint8_t>(value)); }
  void operator()(const std::string& value) { put_kind(GgufKind::String), put_text(value); }
  void operator()(const GgufNestedList&) { fail(ErrorKind::Input, "GGUF metadata: a list of lists can't be written"); }
  void operator()(const std::vector<int64_t>& list) {
    put_list(GgufKind::I32, list, [&](int64_t v) { put(static_cast<int32_t>(v)); });
  }
  void operator()(const std::vector<uint64_t>& list) {
    put_list(GgufKind::U64, list, [&](uint64_t v) { put(v); });
  }
  void operator()(const std::vector<double>& list) {
    put_list(GgufKind::F32, list, [&](double v) { put(static_cast<float>(v)); });
  }
  void operator()(const std::vector<bool>& list) {
    put_list(GgufKind::Bool, list, [&](bool v) { put(static_cast<uint8_t>(v)); });
  }
  void operator()(const std::vector<std::string>& list) {
    put_list(GgufKind::String, list, [&](const std::string& v) { put_text(v); });
  }

  const std::string& text() const { return text_; }

 private:
  template <class T, class PutOne>
  void put_list(GgufKind kind, const std::vector<T>& list, PutOne put_one) {
    put_kind(GgufKind::Array), put_kind(kind), put<uint64_t>(list.size());
    for (const auto& value : list) put_one(value);
  }

  std::string text_;
};

void pad(AtomicFile& file, uint64_t alignment) {
  const size_t beyond = file.bytes_written() % alignment;
  if (beyond != 0) file.write(std::string(alignment - beyond, '\0'));
}

std::string header_of(const GgufMetadata& metadata, const std::vector<TensorSource>& tensors) {
  HeaderWriter header;
  header.put(kGgufMagic);
  header.put<uint32_t>(3);
  header.put<uint64_t>(tensors.size());
  header.put<uint64_t>(metadata.keys().size());
  for (const std::string& key : metadata.keys()) {
    header.put_text(key);
    std::visit(header, metadata.value(key));
  }
  const uint64_t alignment = alignment_of(metadata);
  uint64_t offset = 0;
  for (const TensorSource& tensor : tensors) {
    const auto& type = spec::info(tensor.type);
    header.put_text(tensor.name);
    header.put(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) header.put<uint64_t>(*size);
    header.put(static_cast<uint32_t>(type.ggml_id));
    header.put(offset);
    const uint64_t bytes = spec::bytes_of(tensor.type, tensor.elements());
    offset += (bytes + alignment - 1) / alignment * alignment;
  }
  return header.text();
}

}  // namespace

void write_gguf(const fs::path& path, GgufMetadata metadata, const std::vector<TensorSource>& tensors, const WriteTensor& write,
                const FinishMetadata& finish) {
  for (const TensorSource& tensor : tensors) {
    const auto& type = spec::info(tensor.type);
    require(type.ggml_id >= 0, "{}: tensor {}: GGUF has no {}", path.string(), tensor.name, type.name);
  }
  const uint64_t alignment = alignment_of(metadata);
  const std::string header = header_of(metadata, tensors);
  AtomicFile file(path);
  file.write(header);
  for (const TensorSource& tensor : tensors) {
    pad(file, alignment);
    (write ? write : write_elements)(file, tensor);
  }
  pad(file, alignment);
  if (finish) {
    finish(metadata);
    const std::string finished = header_of(metadata, tensors);
    assert(finished.size() == header.size());
    file.overwrite(0, finished);
  }
  file.commit();
}

}  // namespace moiety::format
