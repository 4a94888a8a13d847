#include "format/npy.h"

#include <charconv>
#include <cstring>

#include "base/error.h"

namespace moiety::format {
namespace {

constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);

struct Header {
  std::string dtype;
  std::vector<int64_t> shape;
  size_t elements = 1;
  std::string_view data;
};

// The header is a Python dictionary literal; NumPy always writes the same three keys.
Header read_header(std::string_view text, const std::string& name) {
  require(text.size() >= 10 && text.substr(0, 8) == kMagic, "{}: not a version 1.0 .npy file", name);
  const size_t length = static_cast<unsigned char>(text[8]) | static_cast<unsigned char>(text[9]) << 8;
  require(text.size() >= 10 + length, "{}: truncated header", name);
  const std::string_view dictionary = text.substr(10, length);

  Header header{.data = text.substr(10 + length)};
  const auto after = [&](std::string_view key) {
    const size_t at = dictionary.find(key);
    require(at != dictionary.npos, "{}: the header has no {}", name, key);
    return dictionary.substr(at + key.size());
  };
  const std::string_view dtype = after("'descr': '");
  header.dtype = dtype.substr(0, dtype.find('\''));
  require(after("'fortran_order': ").starts_with("False"), "{}: expected C order", name);
  std::string_view shape = after("'shape': (");
  shape = shape.substr(0, shape.find(')'));
  while (!shape.empty()) {
    int64_t size = 0;
    const auto [end, error] = std::from_chars(shape.data(), shape.data() + shape.size(), size);
    if (error == std::errc()) {
      require(size >= 0 && size < int64_t{1} << 40, "{}: absurd shape", name);
      header.shape.push_back(size);
      header.elements *= static_cast<size_t>(size);
      require(header.elements < size_t{1} << 40, "{}: absurd shape", name);
    }
    shape.remove_prefix(std::min(shape.size(), std::max<size_t>(1, end - shape.data())));
  }
  return header;
}

template <class From, class To>
NpyArray<To> copy(const Header& header, const std::string& name) {
  require(header.data.size() == header.elements * sizeof(From), "{}: {} bytes of data, expected {}", name,
          header.data.size(), header.elements * sizeof(From));
  NpyArray<To> array{header.shape, std::vector<To>(header.elements)};
  for (size_t i = 0; i < header.elements; ++i) {
    From value;
    std::memcpy(&value, header.data.data() + i * sizeof(From), sizeof(From));
    array.values[i] = static_cast<To>(value);
  }
  return array;
}

}  // namespace

void write_npy(const fs::path& path, std::span<const float> values, const std::vector<int64_t>& shape) {
  std::string sizes;
  for (const int64_t size : shape) sizes += fmt::format("{}, ", size);
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes);
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 11, ' ');
  header += '\n';

  AtomicFile file(path);
  file.write(kMagic);
  const uint16_t length = static_cast<uint16_t>(header.size());
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  file.write(std::as_bytes(values));
  file.commit();
}

NpyArray<float> read_npy_floats(const fs::path& path) {
  const MappedFile file(path);
  const Header header = read_header(file.text(), path.string());
  require(header.dtype == "<f4", "{}: expected f32, found {}", path.string(), header.dtype);
  return copy<float, float>(header, path.string());
}

NpyArray<int64_t> read_npy_integers(const fs::path& path) {
  const MappedFile file(path);
  const Header header = read_header(file.text(), path.string());
  if (header.dtype == "<i4") return copy<int32_t, int64_t>(header, path.string());
  require(header.dtype == "<i8", "{}: expected i32 or i64, found {}", path.string(), header.dtype);
  return copy<int64_t, int64_t>(header, path.string());
}

}  // namespace moiety::format
