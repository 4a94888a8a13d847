#include "format/weight_layout.h"

#include <cassert>
#include <cstring>

#include "base/bytes.h"
#include "format/elements.h"
#include "format/ternary.h"

namespace moiety::format {
namespace {

using spec::ElementType;
using spec::LatentSpec;
using spec::ModelSpec;
using spec::Role;

// Elements that can be moved one by one.
bool stands_alone(ElementType type) {
  const auto& info = spec::info(type);
  return info.is_weight && info.block_elements == 1 && !info.has_scales;
}

// A tensor of `shape` whose element i is stored's element from(i).
template <class From>
TensorView gather(const TensorView& stored, std::vector<int64_t> shape, OwnedBytes& owned, From from) {
  TensorView out{stored.name, stored.type, std::move(shape), {}};
  std::vector<float> floats;
  const std::byte* source = stored.bytes.data();
  if (!stands_alone(stored.type)) {
    floats = to_floats(stored);
    source = reinterpret_cast<const std::byte*>(floats.data());
    out.type = ElementType::F32;
  }
  const size_t size = spec::info(out.type).block_bytes, count = static_cast<size_t>(out.elements());
  std::vector<std::byte>& bytes = owned.emplace_back(count * size);
  const auto copy = [&](auto sample) {
    using Unit = decltype(sample);
    for (size_t i = 0; i < count; ++i) std::memcpy(&bytes[i * sizeof(Unit)], source + from(i) * sizeof(Unit), sizeof(Unit));
  };
  size == 4 ? copy(uint32_t{}) : copy(uint16_t{});
  out.bytes = bytes;
  return out;
}

// Rows first, first + step, … of a matrix, as they lie there.
TensorView every_row(const TensorView& stored, std::vector<int64_t> shape, size_t first, size_t step, size_t row_bytes) {
  TensorView out{stored.name, stored.type, std::move(shape), stored.bytes.subspan(first * row_bytes)};
  out.row_stride = step * row_bytes;
  out.scales = stored.scales;
  if (out.scales.data != nullptr) {
    out.scales.data += first * stored.scales.row_stride;
    out.scales.row_stride = step * stored.scales.row_stride;
  }
  return out;
}

TensorView half_of_rows(const TensorView& stored, std::vector<int64_t> shape, bool second) {
  TensorView out{stored.name, stored.type, std::move(shape), {}};
  const size_t half = stored.bytes.size() / 2;
  out.bytes = stored.bytes.subspan(second ? half : 0, half);
  return out;
}

TensorView ternary(const TensorView& stored, OwnedBytes& owned) {
  std::vector<float> floats = to_floats(stored);
  ternarise(floats, floats);
  std::vector<std::byte>& bytes = owned.emplace_back(floats.size() * sizeof(uint16_t));
  for (size_t i = 0; i < floats.size(); ++i) {
    const uint16_t bits = float_to_bf16(floats[i]);
    std::memcpy(&bytes[i * sizeof(bits)], &bits, sizeof(bits));
  }
  return {stored.name, ElementType::BF16, stored.shape, bytes};
}

TensorView planes(const TensorView& stored, std::vector<int64_t> shape, size_t first, size_t step) {
  TensorView nibbles = stored;
  nibbles.type = ElementType::MXFP4_PLANES;
  return every_row(nibbles, std::move(shape), first, step, static_cast<size_t>(stored.shape[1] * stored.shape[2]));
}

}  // namespace

bool has_planes(Layout layout) {
  return layout == Layout::Planes || layout == Layout::EvenPlanes || layout == Layout::OddPlanes;
}

std::vector<int64_t> stored_shape(const ModelSpec& spec, Role role, Layout layout, int layer) {
  const std::vector<int64_t> shape = spec::shape_of(spec, role, layer);
  const int64_t out = shape[0], in = shape.back();
  switch (layout) {
    case Layout::Plain:
    case Layout::Ternary:
      return shape;
    case Layout::FirstHalf:
    case Layout::SecondHalf:
      return {2 * out, in};
    case Layout::Planes:
      return {out, in / 32, 16};
    case Layout::EvenPlanes:
    case Layout::OddPlanes:
      return {2 * out, in / 32, 16};
    case Layout::Transposed:
      return {in, out};
    case Layout::EvenColumns:
    case Layout::OddColumns:
      return {in, 2 * out};
    case Layout::Even:
    case Layout::Odd:
      return {2 * out};
    case Layout::KeyOfKv:
    case Layout::ValueOfKv: {
      const LatentSpec& latent = *spec.attention.latent;
      return {int64_t{spec.attention.num_heads} * (latent.plain_dim + latent.value_dim), latent.kv_rank};
    }
  }
  return shape;
}

TensorView cut_weight(const ModelSpec& spec, Role role, Layout layout, const TensorView& stored, OwnedBytes& owned) {
  std::vector<int64_t> shape = spec::shape_of(spec, role);
  const size_t out = static_cast<size_t>(shape[0]), in = static_cast<size_t>(shape.back());
  switch (layout) {
    case Layout::Plain:
      return stored;
    case Layout::Ternary:
      return ternary(stored, owned);
    case Layout::FirstHalf:
    case Layout::SecondHalf:
      return half_of_rows(stored, shape, layout == Layout::SecondHalf);
    case Layout::Planes:
      return planes(stored, shape, 0, 1);
    case Layout::EvenPlanes:
    case Layout::OddPlanes:
      return planes(stored, shape, layout == Layout::OddPlanes, 2);
    case Layout::Transposed:
      return gather(stored, shape, owned, [=](size_t i) { return i % in * out + i / in; });
    case Layout::EvenColumns:
    case Layout::OddColumns: {
      const size_t odd = layout == Layout::OddColumns;
      return gather(stored, shape, owned, [=](size_t i) { return i % in * 2 * out + i / in * 2 + odd; });
    }
    case Layout::Even:
    case Layout::Odd: {
      const size_t odd = layout == Layout::Odd;
      return gather(stored, shape, owned, [=](size_t i) { return 2 * i + odd; });
    }
    case Layout::KeyOfKv: {  // [heads, rank, plain], transposed
      const LatentSpec& latent = *spec.attention.latent;
      const size_t rank = latent.kv_rank, plain = latent.plain_dim, head_rows = plain + latent.value_dim;
      return gather(stored, shape, owned, [=](size_t i) {
        const size_t head = i / (rank * plain), r = i / plain % rank, n = i % plain;
        return (head * head_rows + n) * rank + r;
      });
    }
    case Layout::ValueOfKv: {  // [heads, value, rank]
      const LatentSpec& latent = *spec.attention.latent;
      const size_t rank = latent.kv_rank, values = latent.value_dim, head_rows = latent.plain_dim + values;
      return gather(stored, shape, owned, [=](size_t i) {
        const size_t head = i / (values * rank), rest = i % (values * rank);
        return (head * head_rows + latent.plain_dim) * rank + rest;
      });
    }
  }
  return stored;
}

ElementType type_when_cut(Layout layout, ElementType stored) {
  if (has_planes(layout)) return ElementType::MXFP4_PLANES;
  if (layout == Layout::Ternary) return ElementType::BF16;
  const bool rows_stay = layout == Layout::Plain || layout == Layout::FirstHalf || layout == Layout::SecondHalf;
  return rows_stay || stands_alone(stored) ? stored : ElementType::F32;
}

bool is_first_in_tensor(Layout layout) {
  return layout != Layout::SecondHalf && layout != Layout::OddPlanes && layout != Layout::OddColumns &&
         layout != Layout::Odd && layout != Layout::ValueOfKv;
}

namespace {

// The weight that shares a tensor with this one.
Role companion(Role role) {
  switch (role) {
    case Role::ExpertGate:
      return Role::ExpertUp;
    case Role::ExpertGateBias:
      return Role::ExpertUpBias;
    case Role::Key:
      return Role::Value;
    default:
      return Role::ValueUp;  // of KeyUp
  }
}

std::vector<float> interleave_columns(const std::vector<float>& even, const std::vector<float>& odd, size_t in) {
  const size_t out = even.size() / in;
  std::vector<float> joined(2 * even.size());
  for (size_t o = 0; o < out; ++o) {
    for (size_t i = 0; i < in; ++i) {
      joined[i * 2 * out + 2 * o] = even[o * in + i];
      joined[i * 2 * out + 2 * o + 1] = odd[o * in + i];
    }
  }
  return joined;
}

// Keys [heads, rank, plain] and values [heads, value, rank] -> [heads * (plain + value), rank].
std::vector<float> join_kv(const ModelSpec& spec, const std::vector<float>& keys, const std::vector<float>& values) {
  const LatentSpec& latent = *spec.attention.latent;
  const size_t rank = latent.kv_rank, plain = latent.plain_dim, value = latent.value_dim;
  std::vector<float> joined;
  joined.reserve(keys.size() + values.size());
  for (size_t head = 0; head < static_cast<size_t>(spec.attention.num_heads); ++head) {
    for (size_t n = 0; n < plain; ++n) {
      for (size_t r = 0; r < rank; ++r) joined.push_back(keys[(head * rank + r) * plain + n]);
    }
    const auto first = values.begin() + static_cast<ptrdiff_t>(head * value * rank);
    joined.insert(joined.end(), first, first + static_cast<ptrdiff_t>(value * rank));
  }
  return joined;
}

}  // namespace

std::vector<float> join_weights(const ModelSpec& spec, Role role, Layout layout,
                                const std::function<TensorView(Role)>& weight_of) {
  std::vector<float> first = to_floats(weight_of(role));
  const size_t in = static_cast<size_t>(spec::shape_of(spec, role).back());
  switch (layout) {
    case Layout::FirstHalf: {
      const std::vector<float> second = to_floats(weight_of(companion(role)));
      first.insert(first.end(), second.begin(), second.end());
      return first;
    }
    case Layout::Transposed: {
      std::vector<float> turned(first.size());
      const size_t out = first.size() / in;
      for (size_t i = 0; i < first.size(); ++i) turned[i % in * out + i / in] = first[i];
      return turned;
    }
    case Layout::EvenColumns:
      return interleave_columns(first, to_floats(weight_of(companion(role))), in);
    case Layout::Even:
      return interleave_columns(first, to_floats(weight_of(companion(role))), 1);
    case Layout::KeyOfKv:
      return join_kv(spec, first, to_floats(weight_of(companion(role))));
    default:
      return first;
  }
}

}  // namespace moiety::format
