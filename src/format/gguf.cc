#include "format/gguf.h"

#include <bit>
#include <set>

#include "base/bytes.h"
#include "format/elements.h"

namespace moiety::format {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kLongestName = 65535;
constexpr uint32_t kMostDimensions = 4;

// The numbers of the value types in the file.
enum class Kind : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };

size_t smallest_size(Kind kind) {
  switch (kind) {
    case Kind::U8:
    case Kind::I8:
    case Kind::Bool:
      return 1;
    case Kind::U16:
    case Kind::I16:
      return 2;
    case Kind::U32:
    case Kind::I32:
    case Kind::F32:
      return 4;
    default:
      return 8;
  }
}

std::string read_text(ByteReader& reader, const std::string& what) {
  const uint64_t length = reader.read<uint64_t>();
  require(length <= reader.remaining(), "{}: a string of {} bytes, {} bytes left in the file", what, length,
          reader.remaining());
  return std::string(reader.take_text(length));
}

int64_t read_integer(ByteReader& reader, Kind kind, const std::string& what) {
  switch (kind) {
    case Kind::U8:
      return reader.read<uint8_t>();
    case Kind::I8:
      return reader.read<int8_t>();
    case Kind::U16:
      return reader.read<uint16_t>();
    case Kind::I16:
      return reader.read<int16_t>();
    case Kind::U32:
      return reader.read<uint32_t>();
    case Kind::I32:
      return reader.read<int32_t>();
    case Kind::I64:
      return reader.read<int64_t>();
    default: {
      const uint64_t value = reader.read<uint64_t>();
      require(value <= uint64_t{INT64_MAX}, "{}: the integer {} is too large", what, value);
      return static_cast<int64_t>(value);
    }
  }
}

bool read_bool(ByteReader& reader, const std::string& what) {
  const uint8_t value = reader.read<uint8_t>();
  require(value <= 1, "{}: a truth value must be 0 or 1, found {}", what, value);
  return value == 1;
}

double read_float(ByteReader& reader, Kind kind) {
  return kind == Kind::F32 ? double{reader.read<float>()} : reader.read<double>();
}

Kind read_kind(ByteReader& reader, const std::string& what) {
  const uint32_t kind = reader.read<uint32_t>();
  require(kind <= static_cast<uint32_t>(Kind::F64), "{}: value type {} is unknown", what, kind);
  return static_cast<Kind>(kind);
}

GgufValue read_array(ByteReader& reader, const std::string& what) {
  const Kind kind = read_kind(reader, what);
  require(kind != Kind::Array, "{}: a list of lists is not supported", what);
  const uint64_t count = reader.read<uint64_t>();
  require(count <= reader.remaining() / smallest_size(kind), "{}: a list of {} values, {} bytes left in the file", what,
          count, reader.remaining());
  const auto fill = [&]<class T>(std::vector<T> list, auto read_one) -> GgufValue {
    list.reserve(count);
    for (uint64_t i = 0; i < count; ++i) list.push_back(read_one());
    return list;
  };
  switch (kind) {
    case Kind::String:
      return fill(std::vector<std::string>(), [&] { return read_text(reader, what); });
    case Kind::Bool:
      return fill(std::vector<bool>(), [&] { return read_bool(reader, what); });
    case Kind::F32:
    case Kind::F64:
      return fill(std::vector<double>(), [&] { return read_float(reader, kind); });
    default:
      return fill(std::vector<int64_t>(), [&] { return read_integer(reader, kind, what); });
  }
}

GgufValue read_value(ByteReader& reader, const std::string& what) {
  const Kind kind = read_kind(reader, what);
  switch (kind) {
    case Kind::Array:
      return read_array(reader, what);
    case Kind::String:
      return read_text(reader, what);
    case Kind::Bool:
      return read_bool(reader, what);
    case Kind::F32:
    case Kind::F64:
      return read_float(reader, kind);
    default:
      return read_integer(reader, kind, what);
  }
}

// A directory entry whose bytes are not known yet, and where in the data they are to be.
struct Entry {
  TensorView tensor;
  uint64_t offset = 0;
};

Entry read_entry(ByteReader& reader, const std::string& file, uint64_t alignment) {
  Entry entry;
  entry.tensor.name = read_text(reader, file + ": a tensor's name");
  require(entry.tensor.name.size() <= kLongestName, "{}: a tensor's name is {} bytes long", file,
          entry.tensor.name.size());
  const std::string what = fmt::format("{}: tensor {}", file, entry.tensor.name);

  const uint32_t dimensions = reader.read<uint32_t>();
  require(dimensions >= 1 && dimensions <= kMostDimensions, "{}: {} dimensions, expected 1 to {}", what, dimensions,
          kMostDimensions);
  int64_t elements = 1;
  for (uint32_t d = 0; d < dimensions; ++d) {
    const int64_t size = read_integer(reader, Kind::U64, what);
    require(!__builtin_mul_overflow(elements, size, &elements) && elements < int64_t{1} << 56,
            "{}: its sizes multiply to more than any file holds", what);
    entry.tensor.shape.insert(entry.tensor.shape.begin(), size);  // GGUF lists the innermost first
  }

  const uint32_t id = reader.read<uint32_t>();
  const auto type = spec::from_ggml_id(id);
  require(type.has_value(), "{}: element type {} is not one that moiety reads (F32, F16, BF16, Q8_0)", what, id);
  entry.tensor.type = *type;
  const size_t block = spec::info(*type).block_elements;
  require(entry.tensor.shape.back() % static_cast<int64_t>(block) == 0,
          "{}: rows of {} elements, but {} comes in blocks of {}", what, entry.tensor.shape.back(), spec::name(*type),
          block);
  entry.offset = reader.read<uint64_t>();
  require(entry.offset % alignment == 0, "{}: offset {} is not a multiple of the alignment {}", what, entry.offset,
          alignment);
  return entry;
}

uint64_t alignment_of(const GgufMetadata& metadata) {
  if (!metadata.has("general.alignment")) return kDefaultAlignment;
  const int64_t alignment = metadata.integer("general.alignment");
  require(alignment > 0 && alignment <= 1 << 20 && std::has_single_bit(static_cast<uint64_t>(alignment)),
          "{}: general.alignment is {}, expected a power of two", metadata.where, alignment);
  return static_cast<uint64_t>(alignment);
}

}  // namespace

template <class T>
const T& GgufMetadata::get(const std::string& key, const char* kind) const {
  const auto it = values_.find(key);
  require(it != values_.end(), "{}: the metadata has no {}", where, key);
  const T* value = std::get_if<T>(&it->second);
  require(value != nullptr, "{}: metadata {} must be {}", where, key, kind);
  return *value;
}

int64_t GgufMetadata::integer(const std::string& key) const { return get<int64_t>(key, "an integer"); }
bool GgufMetadata::boolean(const std::string& key) const { return get<bool>(key, "true or false"); }
const std::string& GgufMetadata::text(const std::string& key) const { return get<std::string>(key, "a string"); }
const std::vector<int64_t>& GgufMetadata::integers(const std::string& key) const {
  return get<std::vector<int64_t>>(key, "a list of integers");
}
const std::vector<double>& GgufMetadata::numbers(const std::string& key) const {
  return get<std::vector<double>>(key, "a list of numbers");
}
const std::vector<std::string>& GgufMetadata::texts(const std::string& key) const {
  return get<std::vector<std::string>>(key, "a list of strings");
}

double GgufMetadata::number(const std::string& key) const {
  const auto it = values_.find(key);
  if (it != values_.end() && std::holds_alternative<int64_t>(it->second)) {
    return static_cast<double>(std::get<int64_t>(it->second));
  }
  return get<double>(key, "a number");
}

void GgufMetadata::set(const std::string& key, GgufValue value) {
  if (values_.insert_or_assign(key, std::move(value)).second) keys_.push_back(key);
}

const GgufValue& GgufMetadata::value(const std::string& key) const { return values_.at(key); }

GgufFile::GgufFile(const fs::path& path) : file_(path) {
  const std::string name = path.string();
  metadata_.where = name;
  ByteReader reader(file_.bytes(), name);
  require(reader.remaining() >= 4 && reader.read<uint32_t>() == kMagic, "{}: not a GGUF file", name);
  const uint32_t version = reader.read<uint32_t>();
  require(version == 2 || version == 3, "{}: GGUF version {}, expected 2 or 3", name, version);
  const uint64_t tensor_count = reader.read<uint64_t>(), value_count = reader.read<uint64_t>();
  // An entry takes at least 32 bytes of directory, a value at least 13.
  require(tensor_count <= reader.remaining() / 32 && value_count <= reader.remaining() / 13,
          "{}: claims {} tensors and {} metadata values in {} bytes", name, tensor_count, value_count,
          file_.bytes().size());

  for (uint64_t i = 0; i < value_count; ++i) {
    const std::string key = read_text(reader, name + ": a metadata key");
    require(key.size() <= kLongestName && !metadata_.has(key), "{}: metadata key \"{}\" is too long or comes twice",
            name, key.substr(0, 100));
    metadata_.set(key, read_value(reader, fmt::format("{}: metadata {}", name, key)));
  }

  const uint64_t alignment = alignment_of(metadata_);
  std::vector<Entry> entries;
  std::set<std::string> names;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    entries.push_back(read_entry(reader, name, alignment));
    require(names.insert(entries.back().tensor.name).second, "{}: tensor {} comes twice", name,
            entries.back().tensor.name);
  }

  const size_t data_begin = (reader.position() + alignment - 1) / alignment * alignment;
  for (Entry& entry : entries) {
    const size_t bytes = spec::bytes_of(entry.tensor.type, static_cast<size_t>(entry.tensor.elements()));
    const size_t size = file_.bytes().size();
    require(data_begin <= size && entry.offset <= size - data_begin && bytes <= size - data_begin - entry.offset,
            "{}: tensor {}: {} bytes at {} lie past the end of the file (truncated?)", name, entry.tensor.name, bytes,
            data_begin + entry.offset);
    entry.tensor.bytes = file_.bytes().subspan(data_begin + entry.offset, bytes);
    tensors_.push_back(std::move(entry.tensor));
  }
  refuse_overlaps(tensors_, name);
}

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
  void put_kind(Kind kind) { put(static_cast<uint32_t>(kind)); }

  // llama.cpp wants exact types: u32 and f32 for single numbers, i32 and f32 in lists.
  void operator()(int64_t value) {
    if (value >= 0 && value <= UINT32_MAX) {
      put_kind(Kind::U32), put(static_cast<uint32_t>(value));
    } else {
      put_kind(Kind::I64), put(value);
    }
  }
  void operator()(double value) { put_kind(Kind::F32), put(static_cast<float>(value)); }
  void operator()(bool value) { put_kind(Kind::Bool), put(static_cast<uint8_t>(value)); }
  void operator()(const std::string& value) { put_kind(Kind::String), put_text(value); }
  void operator()(const std::vector<int64_t>& list) {
    put_list(Kind::I32, list, [&](int64_t v) { put(static_cast<int32_t>(v)); });
  }
  void operator()(const std::vector<double>& list) {
    put_list(Kind::F32, list, [&](double v) { put(static_cast<float>(v)); });
  }
  void operator()(const std::vector<bool>& list) {
    put_list(Kind::Bool, list, [&](bool v) { put(static_cast<uint8_t>(v)); });
  }
  void operator()(const std::vector<std::string>& list) {
    put_list(Kind::String, list, [&](const std::string& v) { put_text(v); });
  }

  const std::string& text() const { return text_; }

 private:
  template <class T, class PutOne>
  void put_list(Kind kind, const std::vector<T>& list, PutOne put_one) {
    put_kind(Kind::Array), put_kind(kind), put<uint64_t>(list.size());
    for (const auto& value : list) put_one(value);
  }

  std::string text_;
};

void pad(AtomicFile& file) {
  const size_t beyond = file.bytes_written() % kDefaultAlignment;
  if (beyond != 0) file.write(std::string(kDefaultAlignment - beyond, '\0'));
}

}  // namespace

void write_gguf(const fs::path& path, const GgufMetadata& metadata, const std::vector<TensorSource>& tensors) {
  HeaderWriter header;
  header.put(kMagic);
  header.put<uint32_t>(3);
  header.put<uint64_t>(tensors.size());
  header.put<uint64_t>(metadata.keys().size());
  for (const std::string& key : metadata.keys()) {
    header.put_text(key);
    std::visit(header, metadata.value(key));
  }
  uint64_t offset = 0;
  for (const TensorSource& tensor : tensors) {
    const auto& type = spec::info(tensor.type);
    require(type.ggml_id >= 0, "{}: tensor {}: GGUF has no {}", path.string(), tensor.name, type.name);
    header.put_text(tensor.name);
    header.put(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) header.put<uint64_t>(*size);
    header.put(static_cast<uint32_t>(type.ggml_id));
    header.put(offset);
    const uint64_t bytes = spec::bytes_of(tensor.type, tensor.elements());
    offset += (bytes + kDefaultAlignment - 1) / kDefaultAlignment * kDefaultAlignment;
  }

  AtomicFile file(path);
  file.write(header.text());
  for (const TensorSource& tensor : tensors) {
    pad(file);
    write_elements(file, tensor);
  }
  pad(file);
  file.commit();
}

}  // namespace moiety::format
