#include "format/importance.h"

#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "format/elements.h"
#include "format/gguf.h"

namespace moiety::format {
namespace {

constexpr std::string_view kSquares = ".in_sum2", kCounts = ".counts";
constexpr int32_t kMostEntries = 1 << 20, kLongestName = 1 << 12;

void check(const InputSums& sums, const std::string& where) {
  for (const double count : sums.counts) {
    require(std::isfinite(count) && count >= 0, "{}: a count of {}", where, count);
  }
  for (const double square : sums.squares) {
    require(std::isfinite(square) && square >= 0, "{}: a sum of squares of {}", where, square);
  }
}

std::vector<double> numbers_of(const TensorView& tensor, const std::string& where) {
  require(tensor.type == spec::ElementType::F32, "{}: tensor {} is {}, expected F32", where, tensor.name, spec::name(tensor.type));
  const std::vector<float> floats = to_floats(tensor);
  return {floats.begin(), floats.end()};
}

Importance from_gguf(const GgufContents& gguf, const std::string& where) {
  const GgufMetadata& m = gguf.metadata;
  require(m.has("general.type") && m.text("general.type") == "imatrix",
          "{}: a GGUF file, but no importance matrix (general.type is not imatrix)", where);
  Importance out;
  if (m.has("imatrix.datasets")) out.datasets = m.texts("imatrix.datasets");
  if (m.has("imatrix.chunk_count")) out.chunks = m.integer("imatrix.chunk_count");
  if (m.has("imatrix.chunk_size")) out.chunk_tokens = m.integer("imatrix.chunk_size");
  for (const TensorView& tensor : gguf.tensors) {
    const bool is_squares = tensor.name.ends_with(kSquares);
    require(is_squares || tensor.name.ends_with(kCounts), "{}: tensor {} is neither sums ({}) nor counts ({})", where,
            tensor.name, kSquares, kCounts);
    const std::string name = tensor.name.substr(0, tensor.name.rfind('.'));
    InputSums& sums = out.tensors[name];
    (is_squares ? sums.squares : sums.counts) = numbers_of(tensor, where);
  }
  for (const auto& [name, sums] : out.tensors) {
    require(!sums.squares.empty() && !sums.counts.empty(), "{}: {} has {} sums and {} counts", where, name,
            sums.squares.size(), sums.counts.size());
    check(sums, where + ": " + name);
  }
  return out;
}

// The form from before 2025: entries of a name, a number of calls and means times that number.
Importance from_binary(std::span<const std::byte> bytes, const std::string& where) {
  ByteReader reader(bytes, where);
  const auto count_below = [&](int32_t most, const char* what) {
    const int32_t count = reader.read<int32_t>();
    require(count >= 0 && count <= most, "{}: no importance matrix: {} {}", where, count, what);
    return count;
  };
  Importance out;
  const int32_t entries = count_below(kMostEntries, "entries");
  require(entries > 0, "{}: no importance matrix: no entries", where);
  for (int32_t i = 0; i < entries; ++i) {
    const std::string name(reader.take_text(static_cast<size_t>(count_below(kLongestName, "bytes of a name"))));
    const int32_t calls = reader.read<int32_t>();
    const int32_t count = reader.read<int32_t>();
    require(calls > 0 && count > 0 && static_cast<size_t>(count) <= reader.remaining() / sizeof(float),
            "{}: {} has {} numbers of {} calls, {} bytes are left", where, name, count, calls, reader.remaining());
    InputSums& sums = out.tensors[name];
    sums.counts = {static_cast<double>(calls)};
    sums.squares.resize(static_cast<size_t>(count));
    for (double& square : sums.squares) square = reader.read<float>();
    check(sums, where + ": " + name);
  }
  if (reader.remaining() >= 8) {
    out.chunks = reader.read<int32_t>();
    const int32_t length = reader.read<int32_t>();
    if (length > 0) out.datasets.emplace_back(reader.take_text(static_cast<size_t>(length)));
  }
  return out;
}

}  // namespace

std::vector<float> Importance::of(const std::string& tensor, size_t matrix, size_t matrices, size_t columns) const {
  const auto it = tensors.find(tensor);
  if (it == tensors.end()) return {};
  const InputSums& sums = it->second;
  require(sums.squares.size() == matrices * columns && (sums.counts.size() == 1 || sums.counts.size() == matrices),
          "{}: {} has {} sums and {} counts, the model's tensor {} matrices of {} columns", where, tensor, sums.squares.size(),
          sums.counts.size(), matrices, columns);
  const auto count = [&](size_t m) { return sums.counts[sums.counts.size() == 1 ? 0 : m]; };
  std::vector<double> total(columns);
  double tokens = 0;
  const auto add = [&](size_t m) {
    for (size_t c = 0; c < columns; ++c) total[c] += sums.squares[m * columns + c];
    tokens += count(m);
  };
  if (count(matrix) > 0) {
    add(matrix);
  } else {
    for (size_t m = 0; m < matrices; ++m) add(m);
  }
  if (tokens == 0) return {};
  std::vector<float> means(columns);
  for (size_t c = 0; c < columns; ++c) means[c] = static_cast<float>(total[c] / tokens);
  return means;
}

std::vector<size_t> Importance::unvisited(const std::string& tensor) const {
  std::vector<size_t> none;
  const auto it = tensors.find(tensor);
  if (it == tensors.end()) return none;
  for (size_t m = 0; m < it->second.counts.size(); ++m) {
    if (it->second.counts[m] == 0) none.push_back(m);
  }
  return none;
}

Importance parse_importance(std::span<const std::byte> bytes, const std::string& name) {
  const bool is_gguf = bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
  Importance importance = is_gguf ? from_gguf(parse_gguf(bytes, name), name) : from_binary(bytes, name);
  importance.where = name;
  return importance;
}

Importance read_importance(const fs::path& path) {
  const MappedFile file(path);
  return parse_importance(file.bytes(), path.string());
}

void write_importance(const fs::path& path, const Importance& importance) {
  GgufMetadata metadata;
  metadata.where = path.string();
  metadata.set("general.type", std::string("imatrix"));
  metadata.set("imatrix.datasets", importance.datasets);
  metadata.set("imatrix.chunk_count", importance.chunks);
  metadata.set("imatrix.chunk_size", importance.chunk_tokens);
  std::vector<TensorSource> tensors;
  const auto add = [&](const std::string& name, const std::vector<double>& numbers, size_t matrices) {
    TensorSource& tensor = tensors.emplace_back();
    tensor.name = name;
    tensor.shape = {static_cast<int64_t>(matrices), static_cast<int64_t>(numbers.size() / matrices)};
    tensor.made.push_back([&numbers] { return std::vector<float>(numbers.begin(), numbers.end()); });
  };
  for (const auto& [name, sums] : importance.tensors) {
    add(name + std::string(kSquares), sums.squares, sums.counts.size());
    add(name + std::string(kCounts), sums.counts, sums.counts.size());
  }
  write_gguf(path, metadata, tensors);
}

}  // namespace moiety::format
