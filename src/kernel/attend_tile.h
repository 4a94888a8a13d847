// One block of attention as products of small tiles, written once over a vector type. Included by one file an instruction
// set; everything is in an unnamed namespace so that no function compiled for one processor is linked into another's path.
//
// `Isa` gives: kWidth floats a vector (a divisor of 16); kRows and kVecs, the tile of sums that fits the registers; Vec and
// its zero, all, load, store, add, sub, mul, fma, max, sum, largest; keep(v, first, end, other), which takes `other` outside
// lanes [first, end); two_to(v), below; store_bf16(p, v). And for each KvType a struct with Wide load(p) of kWidth lanes,
// all(bits) of one lane's, and dot(a, b, sums).
#pragma once

#include <limits>

#include "kernel/attend.h"

namespace moiety::kernel {
namespace {

// 2^x for x <= 0, within one unit in the last place; 0 below 2^-126. A NaN stays one.
template <class Isa>
inline typename Isa::Vec power_of_two(typename Isa::Vec x) {
  const auto whole = Isa::round(x), rest = Isa::sub(x, whole);
  auto power = Isa::all(0x1.470b4ap-13f);
  for (const float c : {0x1.5f7276p-10f, 0x1.3b270ep-7f, 0x1.c6ae72p-5f, 0x1.ebfbe2p-3f, 0x1.62e432p-1f, 1.0f}) {
    power = Isa::fma(power, rest, Isa::all(c));
  }
  return Isa::scale_unless_below(power, whole, x, -126.0f);
}

inline size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

inline float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
// Of a float or a pair of bf16.
inline uint32_t bits_at(const float* p) {
  uint32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return bits;
}

// Where vectors of a matrix lie: lane group g of step k at data + k * step + g * group.
struct Panel {
  const std::byte* data;
  size_t step, group;  // bytes
};

// Rows x Vecs vectors of sums over `steps`. Each sum is one chain in the order of the steps, so that the tile's size never
// shows. With `scales` the sums are multiplied by them and, if `more`, added to what is there.
template <class Isa, class Type, int Rows, int Vecs>
inline void product_tile(const float* a, size_t a_stride, Panel b, size_t steps, float* c, size_t c_stride,
                         const float* scales, bool more) {
  constexpr int kParts = static_cast<int>(kKvLanes / Isa::kWidth);
  typename Isa::Vec sums[Rows][Vecs];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vecs; ++v) sums[r][v] = Isa::zero();
  }
  for (size_t k = 0; k < steps; ++k) {
    typename Type::Wide wide[Vecs];
    for (int v = 0; v < Vecs; ++v) {
      wide[v] = Type::load(b.data + k * b.step + static_cast<size_t>(v / kParts) * b.group +
                           static_cast<size_t>(v % kParts) * Isa::kWidth * Type::kLaneBytes);
    }
    for (int r = 0; r < Rows; ++r) {
      const auto x = Type::all(bits_at(a + static_cast<size_t>(r) * a_stride + k));
      for (int v = 0; v < Vecs; ++v) sums[r][v] = Type::dot(x, wide[v], sums[r][v]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vecs; ++v) {
      float* out = c + static_cast<size_t>(r) * c_stride + static_cast<size_t>(v) * Isa::kWidth;
      if (scales != nullptr) {
        sums[r][v] = Isa::mul(sums[r][v], Isa::load(scales + static_cast<size_t>(v) * Isa::kWidth));
        if (more) sums[r][v] = Isa::add(sums[r][v], Isa::load(out));
      }
      Isa::store(out, sums[r][v]);
    }
  }
}

template <class Isa, class Type, int Vecs, int Rows = Isa::kRows>
inline void product_rows(size_t rows, const float* a, size_t a_stride, Panel b, size_t steps, float* c, size_t c_stride,
                         const float* scales, bool more) {
  if constexpr (Rows > 1) {
    if (rows < Rows) {
      return product_rows<Isa, Type, Vecs, Rows - 1>(rows, a, a_stride, b, steps, c, c_stride, scales, more);
    }
  }
  product_tile<Isa, Type, Rows, Vecs>(a, a_stride, b, steps, c, c_stride, scales, more);
}

// c[r][16 g + lane] = sum over k of a[r][k] * b[k][16 g + lane] for all rows and lane groups.
template <class Isa, class Type>
void product(size_t rows, size_t groups, const float* a, size_t a_stride, Panel b, size_t steps, float* c,
             size_t c_stride, const float* scales = nullptr, bool more = false) {
  constexpr int kParts = static_cast<int>(kKvLanes / Isa::kWidth);
  constexpr size_t kGroups = Isa::kVecs / kParts;
  const size_t tiles = (rows + Isa::kRows - 1) / Isa::kRows;
  for (size_t g = 0; g < groups; g += kGroups) {
    const Panel panel{b.data + g * b.group, b.step, b.group};
    const float* s = scales == nullptr ? nullptr : scales + g * kKvLanes;
    for (size_t t = 0; t < tiles; ++t) {
      const size_t first = rows * t / tiles, count = rows * (t + 1) / tiles - first;
      const float* at = a + first * a_stride;
      float* to = c + first * c_stride + g * kKvLanes;
      const auto run = [&]<int Groups>() {
        product_rows<Isa, Type, Groups * kParts>(count, at, a_stride, panel, steps, to, c_stride, s, more);
      };
      const size_t left = groups - g;
      if (left >= kGroups) {
        run.template operator()<static_cast<int>(kGroups)>();
      } else if (left == 1) {
        run.template operator()<1>();
      } else if (left == 2) {
        run.template operator()<2>();
      } else {
        run.template operator()<3>();
      }
    }
  }
}

// Numbers rounded to what the product wants of them: f32, or pairs of bf16. n is a multiple of kWidth.
template <class Isa, class Type>
inline void store_rounded(void* to, size_t k, typename Isa::Vec v) {
  if constexpr (Type::kPair == 2) {
    Isa::store_bf16(static_cast<uint16_t*>(to) + k, v);
  } else {
    Isa::store(static_cast<float*>(to) + k, v);
  }
}

template <class Isa, class Type>
void round_query(const float* query, size_t n, float scale, float* to) {
  const auto s = Isa::all(scale);
  size_t k = 0;
  for (; k + Isa::kWidth <= n; k += Isa::kWidth) store_rounded<Isa, Type>(to, k, Isa::mul(s, Isa::load(query + k)));
  if (k == n) return;
  float rest[kKvLanes] = {};
  __builtin_memcpy(rest, query + k, (n - k) * sizeof(float));
  store_rounded<Isa, Type>(to, k, Isa::mul(s, Isa::load(rest)));
}

// Scores of positions [first, end) of a block, in place into their weights 2^(score - largest), as the product with the values wants
// them; zero up to `padded_end` and from `padded_first`, both multiples of 16. `value_scales` may be nullptr.
template <class Isa, class Type>
void soften(float* scores, size_t padded_first, size_t first, size_t end, size_t padded_end, const float* value_scales,
            float& largest, float& sum) {
  constexpr size_t kWidth = Isa::kWidth;
  const float nothing = -std::numeric_limits<float>::infinity();
  const size_t begin = first / kWidth * kWidth;
  const auto visible = [&](size_t i) {
    const auto v = Isa::load(scores + i);
    if (first <= i && i + kWidth <= end) return v;
    return Isa::keep(v, first > i ? first - i : 0, lesser(end - i, kWidth), nothing);
  };

  auto most = Isa::all(nothing);
  for (size_t i = begin; i < end; i += kWidth) most = Isa::max(most, visible(i));
  largest = Isa::largest(most);

  const auto from = Isa::all(largest);
  auto sums = Isa::zero();
  for (size_t i = padded_first; i < begin; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::zero());
  size_t i = begin;
  for (; i < end; i += kWidth) {
    auto weight = power_of_two<Isa>(Isa::sub(visible(i), from));
    sums = Isa::add(sums, weight);
    if (value_scales != nullptr) {
      const auto scaled = Isa::mul(weight, Isa::load(value_scales + i));
      weight = Isa::keep(scaled, first > i ? first - i : 0, lesser(end - i, kWidth), 0.0f);
    }
    store_rounded<Isa, Type>(scores, i, weight);
  }
  for (; i < padded_end; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::zero());
  sum = Isa::sum(sums);
}

template <class Isa>
void fold(const AttendState& from, const AttendState& into, size_t rows, size_t value_dim) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    if (from.sum[r] == 0) continue;  // it saw nothing
    const float largest = into.largest[r] < from.largest[r] ? from.largest[r] : into.largest[r];
    float both[kKvLanes] = {into.largest[r] - largest, from.largest[r] - largest};
    Isa::store(both, power_of_two<Isa>(Isa::load(both)));
    into.largest[r] = largest;
    into.sum[r] = __builtin_fmaf(from.sum[r], both[1], into.sum[r] * both[0]);
    const auto old = Isa::all(both[0]), added = Isa::all(both[1]);
    const float* x = from.mixed + r * from.stride;
    float* y = into.mixed + r * into.stride;
    for (size_t d = 0; d < value_dim; d += Isa::kWidth) {
      Isa::store(y + d, Isa::fma(Isa::load(x + d), added, Isa::mul(Isa::load(y + d), old)));
    }
  }
}

template <class Isa, class Type>
void attend_of(const KvView& kv, size_t block, const AttendRows& rows, const AttendState& state, float* scratch) {
  // What part of the block is seen
  const size_t begin = block * kAttendBlock;
  size_t first[kAttendRows], end[kAttendRows], padded_first = kAttendBlock, most_end = 0;
  for (size_t r = 0; r < rows.count; ++r) {
    first[r] = rows.first[r] > begin ? lesser(rows.first[r] - begin, kAttendBlock) : 0;
    end[r] = rows.end[r] > begin ? lesser(rows.end[r] - begin, kAttendBlock) : 0;
    if (first[r] >= end[r]) continue;
    padded_first = lesser(padded_first, first[r] / kKvLanes * kKvLanes);
    most_end = most_end < end[r] ? end[r] : most_end;
  }
  if (most_end == 0) return;
  const size_t padded_end = round_up(most_end, kKvLanes), lanes = padded_end - padded_first;

  // Scores
  const size_t key_dim = kv.padded_key_dim(), query_stride = round_up(kv.key_dim, kKvLanes);
  float *query = scratch, *scores = scratch + kAttendRows * query_stride;
  for (size_t r = 0; r < rows.count; ++r) {
    round_query<Isa, Type>(rows.query[r], kv.key_dim, rows.scale, query + r * query_stride);
  }
  constexpr size_t kBytes = Type::kLaneBytes / Type::kPair;
  const Panel keys{kv.keys + kBytes * (begin + padded_first) * key_dim, kKvLanes * Type::kLaneBytes,
                   kKvLanes * key_dim * kBytes};
  const size_t at_once = kv.key_scales == nullptr ? key_dim : kKeysPerScale;
  for (size_t d = 0; d < key_dim; d += at_once) {
    const size_t steps = lesser(at_once, key_dim - d) / Type::kPair;
    const float* scales = kv.key_scales == nullptr
                              ? nullptr
                              : kv.key_scales + d / kKeysPerScale * kv.scale_stride + begin + padded_first;
    product<Isa, Type>(rows.count, lanes / kKvLanes, query + d / Type::kPair, query_stride,
                       {keys.data + d / Type::kPair * keys.step, keys.step, keys.group}, steps, scores + padded_first,
                       kAttendBlock, scales, d > 0);
  }

  // Weights
  float* mixed = scores + kAttendRows * kAttendBlock;
  const size_t value_dim = kv.padded_value_dim();
  const AttendState part{mixed + kAttendRows * value_dim, mixed + kAttendRows * (value_dim + 1), mixed, value_dim};
  const float* value_scales = kv.value_scales == nullptr ? nullptr : kv.value_scales + begin;
  for (size_t r = 0; r < rows.count; ++r) {
    part.sum[r] = 0;
    float* row = scores + r * kAttendBlock;
    if (first[r] < end[r]) {
      soften<Isa, Type>(row, padded_first, first[r], end[r], padded_end, value_scales, part.largest[r], part.sum[r]);
    } else {
      __builtin_memset(row, 0, kAttendBlock * sizeof(float));
    }
  }

  // Values
  const size_t steps = (most_end - padded_first + Type::kPair - 1) / Type::kPair;
  const Panel values{kv.values + kBytes * (begin + padded_first) * value_dim, value_dim * Type::kLaneBytes,
                     kKvLanes * Type::kLaneBytes};
  product<Isa, Type>(rows.count, value_dim / kKvLanes,
                     scores + padded_first / Type::kPair, kAttendBlock, values, steps, mixed, value_dim);
  fold<Isa>(part, state, rows.count, value_dim);
}

template <class Isa>
void attend(const KvView& kv, size_t block, const AttendRows& rows, const AttendState& state, float* scratch) noexcept {
  switch (kv.type) {
    case KvType::F32:
      return attend_of<Isa, typename Isa::F32>(kv, block, rows, state, scratch);
    case KvType::F16:
      return attend_of<Isa, typename Isa::F16>(kv, block, rows, state, scratch);
    case KvType::BF16:
      return attend_of<Isa, typename Isa::BF16>(kv, block, rows, state, scratch);
    case KvType::Q8:
      return attend_of<Isa, typename Isa::Q8>(kv, block, rows, state, scratch);
  }
}

}  // namespace
}  // namespace moiety::kernel
