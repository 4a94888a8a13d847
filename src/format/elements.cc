#include "format/elements.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/bytes.h"

namespace moiety::format {
namespace {

using spec::ElementType;

constexpr size_t kChunk = 1 << 16;  // elements converted at a time; a multiple of every block
constexpr size_t kQ8Block = 32, kQ8Bytes = 34;

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void q8_0_to_floats(const std::byte* block, float* out) {
  const float scale = half_to_float(load<uint16_t>(block));
  for (size_t i = 0; i < kQ8Block; ++i) out[i] = scale * static_cast<float>(load<int8_t>(block + 2 + i));
}

void floats_to_q8_0(const float* x, std::byte* block) {
  float largest = 0;
  for (size_t i = 0; i < kQ8Block; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = largest / 127;
  const float inverse = scale > 0 ? 1 / scale : 0;
  const uint16_t half = float_to_half(scale);
  std::memcpy(block, &half, 2);
  for (size_t i = 0; i < kQ8Block; ++i) {
    const float rounded = std::clamp(std::round(x[i] * inverse), -127.0f, 127.0f);
    const int8_t q = std::isnan(rounded) ? 0 : static_cast<int8_t>(rounded);
    std::memcpy(block + 2 + i, &q, 1);
  }
}

bool all_finite(std::span<const float> floats) {
  return std::all_of(floats.begin(), floats.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

void to_floats(ElementType type, std::span<const std::byte> bytes, std::span<float> out) {
  assert(bytes.size() == spec::bytes_of(type, out.size()));
  switch (type) {
    case ElementType::F32:
      if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
      return;
    case ElementType::F16:
      for (size_t i = 0; i < out.size(); ++i) out[i] = half_to_float(load<uint16_t>(&bytes[2 * i]));
      return;
    case ElementType::BF16:
      for (size_t i = 0; i < out.size(); ++i) out[i] = bf16_to_float(load<uint16_t>(&bytes[2 * i]));
      return;
    case ElementType::Q8_0:
      for (size_t b = 0; b < out.size() / kQ8Block; ++b) q8_0_to_floats(&bytes[b * kQ8Bytes], &out[b * kQ8Block]);
      return;
    default:
      fail(ErrorKind::Input, "elements of type {} are not weights", spec::name(type));
  }
}

std::vector<float> to_floats(const TensorView& tensor) {
  std::vector<float> floats(static_cast<size_t>(tensor.elements()));
  to_floats(tensor.type, tensor.bytes, floats);
  return floats;
}

void from_floats(ElementType type, std::span<const float> floats, std::span<std::byte> out) {
  assert(out.size() == spec::bytes_of(type, floats.size()));
  const auto store16 = [&](uint16_t (*convert)(float)) {
    for (size_t i = 0; i < floats.size(); ++i) {
      const uint16_t bits = convert(floats[i]);
      std::memcpy(&out[2 * i], &bits, 2);
    }
  };
  switch (type) {
    case ElementType::F32:
      if (!out.empty()) std::memcpy(out.data(), floats.data(), out.size());
      return;
    case ElementType::F16:
      return store16(float_to_half);
    case ElementType::BF16:
      return store16(float_to_bf16);
    case ElementType::Q8_0:
      for (size_t b = 0; b < floats.size() / kQ8Block; ++b) floats_to_q8_0(&floats[b * kQ8Block], &out[b * kQ8Bytes]);
      return;
    default:
      fail(ErrorKind::Input, "floats can't be stored as {}", spec::name(type));
  }
}

void write_elements(AtomicFile& file, const TensorSource& tensor) {
  std::vector<float> floats;
  std::vector<std::byte> bytes;
  size_t written = 0;
  for (const TensorView& part : tensor.parts) {
    const size_t elements = static_cast<size_t>(part.elements());
    written += elements;
    if (!spec::info(part.type).is_weight) {
      require(part.type == tensor.type, "tensor {}: {} can't become {}", tensor.name, spec::name(part.type),
              spec::name(tensor.type));
      file.write(part.bytes);
      continue;
    }
    for (size_t done = 0; done < elements; done += kChunk) {
      const size_t count = std::min(kChunk, elements - done);
      const auto source = part.bytes.subspan(spec::bytes_of(part.type, done), spec::bytes_of(part.type, count));
      floats.resize(count);
      to_floats(part.type, source, floats);
      require(all_finite(floats), "tensor {}: it holds a NaN or an infinity; the model is broken", part.name);
      if (part.type == tensor.type) {
        file.write(source);
        continue;
      }
      bytes.resize(spec::bytes_of(tensor.type, count));
      from_floats(tensor.type, floats, bytes);
      file.write(bytes);
    }
  }
  assert(written == tensor.elements());
}

}  // namespace moiety::format
