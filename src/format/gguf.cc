#include "format/gguf.h"

#include <bit>
#include <string_view>
#include <unordered_set>

#include "base/bytes.h"
#include "format/gguf_kinds.h"

namespace moiety::format {
namespace {

using Kind = GgufKind;

constexpr uint64_t kLongestName = 65535;
constexpr uint64_t kLongestList = 1 << 26;
constexpr uint32_t kMostDimensions = 4;
constexpr int kDeepestList = 4;

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
    case Kind::Array:
      return 12;
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
  require(kind <= static_cast<uint32_t>(Kind::F64),
          "{}: value type {} is unknown; GGUF has integers, floats, truth values, strings and lists (0 to 12)", what, kind);
  return static_cast<Kind>(kind);
}

struct ListHead {
  Kind kind;
  uint64_t count;
};

ListHead read_list_head(ByteReader& reader, const std::string& what) {
  const Kind kind = read_kind(reader, what);
  const uint64_t count = reader.read<uint64_t>();
  require(count <= reader.remaining() / smallest_size(kind) && count <= kLongestList,
          "{}: a list of {} values, {} bytes left in the file", what, count, reader.remaining());
  return {kind, count};
}

// Passes over `count` lists.
void skip_lists(ByteReader& reader, uint64_t count, int depth, const std::string& what) {
  require(depth <= kDeepestList, "{}: lists nested more than {} deep", what, kDeepestList);
  for (uint64_t i = 0; i < count; ++i) {
    const ListHead list = read_list_head(reader, what);
    if (list.kind == Kind::Array) {
      skip_lists(reader, list.count, depth + 1, what);
    } else if (list.kind == Kind::String) {
      for (uint64_t k = 0; k < list.count; ++k) read_text(reader, what);
    } else {
      reader.take(list.count * smallest_size(list.kind));
    }
  }
}

GgufValue read_u64_list(ByteReader& reader, uint64_t count) {
  std::vector<uint64_t> list(count);
  bool is_small = true;
  for (uint64_t& value : list) {
    value = reader.read<uint64_t>();
    is_small &= value <= uint64_t{INT64_MAX};
  }
  if (is_small) return std::vector<int64_t>(list.begin(), list.end());
  return list;
}

GgufValue read_array(ByteReader& reader, const std::string& what) {
  const auto [kind, count] = read_list_head(reader, what);
  const auto fill = [&, count = count]<class T>(std::vector<T> list, auto read_one) -> GgufValue {
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
      return fill(std::vector<double>(), [&, kind = kind] { return read_float(reader, kind); });
    case Kind::Array:
      skip_lists(reader, count, 2, what);
      return GgufNestedList{count};
    case Kind::U64:
      return read_u64_list(reader, count);
    default:
      return fill(std::vector<int64_t>(), [&, kind = kind] { return read_integer(reader, kind, what); });
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

std::string ggml_names() {
  std::string names;
  for (const auto& row : spec::element_types()) {
    if (row.ggml_id >= 0) names.append(names.empty() ? "" : ", ").append(row.name);
  }
  return names;
}

// A directory entry whose bytes are not known yet, and where in the data they are to be.
struct Entry {
  TensorView tensor;
  uint64_t offset = 0;
};

Entry read_entry(ByteReader& reader, const std::string& file, uint64_t alignment) {
  Entry entry;
  const uint64_t length = reader.read<uint64_t>();
  require(length <= reader.remaining(), "{}: a tensor's name of {} bytes, {} bytes left in the file", file, length, reader.remaining());
  entry.tensor.name = reader.take_text(length);
  require(entry.tensor.name.size() <= kLongestName, "{}: a tensor's name is {} bytes long", file,
          entry.tensor.name.size());
  const std::string& name = entry.tensor.name;

  const uint32_t dimensions = reader.read<uint32_t>();
  require(dimensions >= 1 && dimensions <= kMostDimensions, "{}: tensor {}: {} dimensions, expected 1 to {}", file, name, dimensions,
          kMostDimensions);
  int64_t elements = 1;
  for (uint32_t d = 0; d < dimensions; ++d) {
    const uint64_t size = reader.read<uint64_t>();
    require(size <= uint64_t{INT64_MAX} && !__builtin_mul_overflow(elements, size, &elements) && elements < int64_t{1} << 56,
            "{}: tensor {}: its sizes multiply to more than any file holds", file, name);
    entry.tensor.shape.insert(entry.tensor.shape.begin(), static_cast<int64_t>(size));  // GGUF lists the innermost first
  }

  const uint32_t id = reader.read<uint32_t>();
  const auto type = spec::from_ggml_id(id);
  require(type.has_value(), "{}: tensor {}: ggml's element type {} is not one that moiety knows ({})", file, name, id,
          type ? "" : ggml_names());
  entry.tensor.type = *type;
  const size_t block = spec::info(*type).block_elements;
  require(entry.tensor.shape.back() % static_cast<int64_t>(block) == 0,
          "{}: tensor {}: rows of {} elements, but {} comes in blocks of {}", file, name, entry.tensor.shape.back(), spec::name(*type),
          block);
  entry.offset = reader.read<uint64_t>();
  require(entry.offset % alignment == 0, "{}: tensor {}: offset {} is not a multiple of the alignment {}", file, name, entry.offset,
          alignment);
  return entry;
}

void refuse_same_names(const std::vector<TensorView>& tensors, const std::string& file) {
  std::unordered_set<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorView& tensor : tensors) require(names.insert(tensor.name).second, "{}: tensor {} comes twice", file, tensor.name);
}

}  // namespace

uint64_t alignment_of(const GgufMetadata& metadata) {
  if (!metadata.has("general.alignment")) return kGgufAlignment;
  const int64_t alignment = metadata.integer("general.alignment");
  require(alignment > 0 && alignment <= 1 << 20 && std::has_single_bit(static_cast<uint64_t>(alignment)),
          "{}: general.alignment is {}, expected a power of two", metadata.where, alignment);
  return static_cast<uint64_t>(alignment);
}

GgufContents parse_gguf(std::span<const std::byte> bytes, const std::string& name) {
  GgufContents out;
  out.metadata.where = name;
  ByteReader reader(bytes, name);
  require(reader.remaining() >= 4 && reader.read<uint32_t>() == kGgufMagic, "{}: not a GGUF file", name);
  out.version = reader.read<uint32_t>();
  require((out.version & 0xffff) != 0, "{}: a big-endian GGUF file; moiety reads little-endian ones", name);
  require(out.version == 2 || out.version == 3, "{}: GGUF version {}, expected 2 or 3", name, out.version);
  const uint64_t tensor_count = reader.read<uint64_t>(), value_count = reader.read<uint64_t>();
  // An entry takes at least 32 bytes of directory, a value at least 13.
  require(tensor_count <= reader.remaining() / 32 && value_count <= reader.remaining() / 13,
          "{}: claims {} tensors and {} metadata values in {} bytes", name, tensor_count, value_count, bytes.size());

  for (uint64_t i = 0; i < value_count; ++i) {
    const std::string key = read_text(reader, name + ": a metadata key");
    require(key.size() <= kLongestName && !out.metadata.has(key), "{}: metadata key \"{}\" is too long or comes twice",
            name, key.substr(0, 100));
    out.metadata.set(key, read_value(reader, fmt::format("{}: metadata {}", name, key)));
  }

  const uint64_t alignment = alignment_of(out.metadata);
  std::vector<Entry> entries;
  entries.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) entries.push_back(read_entry(reader, name, alignment));

  const size_t data_begin = (reader.position() + alignment - 1) / alignment * alignment;
  out.tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    const size_t size = spec::bytes_of(entry.tensor.type, static_cast<size_t>(entry.tensor.elements()));
    require(data_begin <= bytes.size() && entry.offset <= bytes.size() - data_begin &&
                size <= bytes.size() - data_begin - entry.offset,
            "{}: tensor {}: {} bytes at {} lie past the end of the file (truncated?)", name, entry.tensor.name, size,
            data_begin + entry.offset);
    entry.tensor.bytes = bytes.subspan(data_begin + entry.offset, size);
    out.tensors.push_back(std::move(entry.tensor));
  }
  refuse_same_names(out.tensors, name);
  refuse_overlaps(out.tensors, name);
  return out;
}

}  // namespace moiety::format
