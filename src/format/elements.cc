#include "format/elements.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "format/blocks.h"
#include "format/fit_blocks.h"

namespace moiety::format {
namespace {

using spec::ElementType;

constexpr size_t kChunk = 1 << 16;  // elements converted at a time; a multiple of every block

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void mxfp4_planes_to_floats(std::span<const std::byte> bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = e2m1_to_float(static_cast<int>(bytes[i / 2]) >> i % 2 * 4 & 15);
}

float scale_at(ElementType type, const std::byte* scales, size_t i) {
  return type == ElementType::F8_E4M3 ? load<float>(scales + 4 * i) : e8m0_to_float(static_cast<uint8_t>(scales[i]));
}

bool all_finite(std::span<const float> floats) {
  return std::all_of(floats.begin(), floats.end(), [](float x) { return std::isfinite(x); });
}

size_t row_elements(const TensorView& tensor) {
  return tensor.shape.empty() ? 1 : static_cast<size_t>(tensor.shape.back());
}

// Calls visit(bytes, floats) for a tensor of a weight type, piece by piece in order: the bytes of some elements as they lie,
// and the elements' values.
template <class Visit>
void for_each_piece(const TensorView& tensor, Visit visit) {
  const size_t elements = static_cast<size_t>(tensor.elements());
  const bool one_run = tensor.row_stride == 0 && tensor.scales.data == nullptr;
  const size_t step = one_run ? kChunk : row_elements(tensor);
  const size_t step_bytes = spec::bytes_of(tensor.type, step);
  const size_t stride = tensor.row_stride != 0 ? tensor.row_stride : step_bytes;
  std::vector<float> floats;
  for (size_t done = 0, i = 0; done < elements; done += step, ++i) {
    floats.resize(std::min(step, elements - done));
    const auto bytes = tensor.bytes.subspan(i * stride, spec::bytes_of(tensor.type, floats.size()));
    row_to_floats(tensor.type, bytes.data(), tensor.scales, i, floats);
    visit(bytes, floats);
  }
}

}  // namespace

void to_floats(ElementType type, std::span<const std::byte> bytes, std::span<float> out) {
  assert(bytes.size() == spec::bytes_of(type, out.size()));
  if (const DecodeBlock decode = block_decoder(type)) {
    const auto& block = spec::info(type);
    for (size_t b = 0; b < out.size() / block.block_elements; ++b) {
      decode(&bytes[b * block.block_bytes], &out[b * block.block_elements]);
    }
    return;
  }
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
    case ElementType::F8_E4M3:
      for (size_t i = 0; i < out.size(); ++i) out[i] = e4m3_to_float(static_cast<uint8_t>(bytes[i]));
      return;
    case ElementType::MXFP4_PLANES:
      return mxfp4_planes_to_floats(bytes, out);
    default:
      fail(ErrorKind::Input, "elements of type {} are not weights", spec::name(type));
  }
}

void row_to_floats(ElementType type, const std::byte* bytes, const spec::Scales& scales, size_t row,
                   std::span<float> out) {
  to_floats(type, {bytes, spec::bytes_of(type, out.size())}, out);
  if (scales.data == nullptr) return;
  const std::byte* scale_row = scales.row(row);
  for (size_t begin = 0, i = 0; begin < out.size(); ++i) {
    const size_t count = std::min(scales.block_cols, out.size() - begin);
    const float scale = scale_at(type, scale_row, i);
    for (float& x : out.subspan(begin, count)) x *= scale;
    begin += count;
  }
}

std::vector<float> to_floats(const TensorView& tensor) {
  std::vector<float> all;
  all.reserve(static_cast<size_t>(tensor.elements()));
  for_each_piece(tensor, [&](auto, const std::vector<float>& floats) { all.insert(all.end(), floats.begin(), floats.end()); });
  return all;
}

bool can_write(ElementType type) {
  return type == ElementType::F32 || type == ElementType::F16 || type == ElementType::BF16 || block_encoder(type) != nullptr ||
         can_fit(type);
}

std::string writable_type_names() {
  std::string names;
  for (const auto& row : spec::element_types()) {
    if (can_write(row.type)) names.append(names.empty() ? "" : ", ").append(row.name);
  }
  return names;
}

void from_floats(ElementType type, std::span<const float> floats, std::span<std::byte> out) {
  assert(out.size() == spec::bytes_of(type, floats.size()));
  if (const EncodeBlock encode = block_encoder(type)) {
    const auto& block = spec::info(type);
    for (size_t b = 0; b < floats.size() / block.block_elements; ++b) {
      encode(&floats[b * block.block_elements], &out[b * block.block_bytes]);
    }
    return;
  }
  if (can_fit(type)) return fit_blocks(type, floats, {}, out);
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
    default:
      fail(ErrorKind::Input, "moiety does not write {}", spec::name(type));
  }
}

void write_elements(AtomicFile& file, const TensorSource& tensor) {
  std::vector<std::byte> converted;
  size_t written = 0;
  const auto convert = [&](const std::string& name, const std::vector<float>& floats) {
    require(all_finite(floats), "tensor {}: it holds a NaN or an infinity; the model is broken", name);
    converted.resize(spec::bytes_of(tensor.type, floats.size()));
    from_floats(tensor.type, floats, converted);
    file.write(converted);
  };
  for (const TensorView& part : tensor.parts) {
    written += static_cast<size_t>(part.elements());
    const bool same_type = part.type == tensor.type;
    if (!spec::info(part.type).is_weight) {
      require(same_type, "tensor {}: {} can't become {}", tensor.name, spec::name(part.type), spec::name(tensor.type));
      file.write(part.bytes);
      continue;
    }
    require((same_type && part.scales.data == nullptr) || can_write(tensor.type), "tensor {}: moiety does not write {}",
            tensor.name, spec::name(tensor.type));
    for_each_piece(part, [&](std::span<const std::byte> bytes, const std::vector<float>& floats) {
      if (!same_type || part.scales.data != nullptr) return convert(part.name, floats);
      require(all_finite(floats), "tensor {}: it holds a NaN or an infinity; the model is broken", part.name);
      file.write(bytes);
    });
  }
  for (const auto& make : tensor.made) {
    require(can_write(tensor.type), "tensor {}: moiety does not write {}", tensor.name, spec::name(tensor.type));
    const std::vector<float> floats = make();
    written += floats.size();
    convert(tensor.name, floats);
  }
  assert(written == tensor.elements());
}

}  // namespace moiety::format
