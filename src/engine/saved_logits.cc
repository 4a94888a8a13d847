#include "engine/saved_logits.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "engine/divergence.h"

namespace moiety::engine {
namespace {

constexpr std::string_view kMagic = "MOIETYLP";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 20, kRowHeaderBytes = 12;
constexpr float kRange = 32;  // nats
constexpr uint32_t kMostWords = 1 << 24;

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), from, from + sizeof value);
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

LogitsWriter::LogitsWriter(const fs::path& path, int vocab_size, size_t window) : file_(path) {
  std::vector<std::byte> header;
  append(header, kVersion);
  append(header, static_cast<uint32_t>(vocab_size));
  append(header, static_cast<uint32_t>(window));
  file_.write(kMagic);
  file_.write(header);
}

void LogitsWriter::add(std::span<const float> log_probabilities_V, int32_t token) {
  const auto [least, most] = std::minmax_element(log_probabilities_V.begin(), log_probabilities_V.end());
  const float range = std::min(*most - *least, kRange), step = range / 65535;
  std::vector<std::byte> row;
  row.reserve(kRowHeaderBytes + 2 * log_probabilities_V.size());
  append(row, token);
  append(row, *most);
  append(row, step);
  for (const float x : log_probabilities_V) {
    const float steps = step > 0 ? std::round((*most - x) / step) : 0;
    append(row, static_cast<uint16_t>(std::min(steps, 65535.0f)));
  }
  file_.write(row);
}

bool SavedLogits::is_such(const fs::path& path) {
  char magic[kMagic.size()] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == kMagic;
}

SavedLogits::SavedLogits(const fs::path& path) : file_(path) {
  ByteReader reader(file_.bytes(), path.string());
  require(reader.take_text(kMagic.size()) == kMagic, "{}: these are no saved logits", path.string());
  const auto version = reader.read<uint32_t>(), vocabulary = reader.read<uint32_t>();
  require(version == kVersion, "{}: version {} of saved logits, moiety reads {}", path.string(), version, kVersion);
  require(vocabulary > 0 && vocabulary <= kMostWords, "{}: a vocabulary of {}", path.string(), vocabulary);
  vocab_size_ = static_cast<int>(vocabulary);
  window_ = reader.read<uint32_t>();
  row_bytes_ = kRowHeaderBytes + 2 * size_t{vocabulary};
  require(reader.remaining() % row_bytes_ == 0, "{}: truncated: {} bytes are no whole number of predictions of {} bytes",
          path.string(), reader.remaining(), row_bytes_);
  count_ = reader.remaining() / row_bytes_;
}

const std::byte* SavedLogits::row(size_t i) const {
  assert(i < count_);
  return file_.bytes().data() + kHeaderBytes + i * row_bytes_;
}

int32_t SavedLogits::token(size_t i) const { return load<int32_t>(row(i)); }

void SavedLogits::read(size_t i, std::span<float> out_V) const {
  const std::byte* from = row(i);
  const float most = load<float>(from + 4), step = load<float>(from + 8);
  require(std::isfinite(most) && std::isfinite(step) && step >= 0, "{}: prediction {} has a step of {} from {}",
          path().string(), i, step, most);
  for (size_t v = 0; v < out_V.size(); ++v) {
    out_V[v] = most - step * static_cast<float>(load<uint16_t>(from + kRowHeaderBytes + 2 * v));
  }
  to_log_probabilities(out_V);  // rounding left a sum that is not quite 1
}

}  // namespace moiety::engine
