// One block of attention as products of small tiles, written once over a vector type. Included by one file an instruction
// set; everything is in an unnamed namespace so that no function compiled for one processor is linked into another's path.
//
// `Isa` gives: kWidth floats a vector (a divisor of 16); kRows and kVecs, the tile of sums that fits the registers; Vec and
// its zero, all, load, store, add, sub, mul, fma, max, sum, largest; keep(v, first, end, other), which takes `other` outside
// lanes [first, end); round, scale_unless_below; store_bf16(p, v), store_integers(p, v). And for each KvType a struct with
// kPair, kLaneBytes, kIsScaled (sums are integers), Sums and its nothing() and floats(sums), Wide load(p) of kWidth lanes,
// all(bits) of one lane's, and dot(a, b, sums).
#pragma once

#include <limits>

#include "kernel/attend.h"

namespace moiety::kernel {
namespace {

inline size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

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

// Memory that will be read soon and is fetched a little at each step, so that the processor multiplies while it waits.
struct Ahead {
  const std::byte* at = nullptr;
  size_t bytes = 0;
  size_t lines = 0;  // of 64 bytes, a step

  // What `steps` fetch.
  Ahead take(size_t steps, size_t lines_a_step) {
    const Ahead part{at, lesser(64 * steps * lines_a_step, bytes), lines_a_step};
    at += part.bytes;
    bytes -= part.bytes;
    return part;
  }
};

// Of integers: what the sums of a row and, unless it is nullptr, of a lane are multiplied by.
struct Scales {
  const float* rows = nullptr;
  const float* lanes = nullptr;
};

// Rows x Vecs vectors of sums over `steps`. Each sum is one chain in the order of the steps, so that the tile's size never
// shows. Those of integers are added to what is there if `more`.
template <class Isa, class Type, int Rows, int Vecs>
__attribute__((noinline)) void product_tile(const float* a, size_t a_stride, Panel b, size_t steps, float* c, size_t c_stride,
                         Scales scales, bool more, Ahead ahead) {
  constexpr int kParts = static_cast<int>(kKvLanes / Isa::kWidth);
  typename Type::Sums sums[Rows][Vecs];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vecs; ++v) sums[r][v] = Type::nothing();
  }
  for (size_t k = 0; k < steps; ++k) {
    typename Type::Wide wide[Vecs];
    for (int v = 0; v < Vecs; ++v) {
      wide[v] = Type::load(b.data + k * b.step + static_cast<size_t>(v / kParts) * b.group +
                           static_cast<size_t>(v % kParts) * Isa::kWidth * Type::kLaneBytes);
    }
    if (k * ahead.lines * 64 < ahead.bytes) {
      for (size_t line = 0; line < ahead.lines; ++line) __builtin_prefetch(ahead.at + (k * ahead.lines + line) * 64, 0, 2);
    }
    for (int r = 0; r < Rows; ++r) {
      const auto x = Type::all(bits_at(a + static_cast<size_t>(r) * a_stride + k));
      for (int v = 0; v < Vecs; ++v) sums[r][v] = Type::dot(x, wide[v], sums[r][v]);
    }
  }
  // Stored before anything else is done with them, or the compiler keeps the sums in memory all along.
  float raw[Type::kIsScaled ? static_cast<size_t>(Rows * Vecs) * Isa::kWidth : 1];
  float* const to = Type::kIsScaled ? raw : c;
  const size_t to_stride = Type::kIsScaled ? Vecs * Isa::kWidth : c_stride;
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vecs; ++v) {
      Isa::store(to + static_cast<size_t>(r) * to_stride + static_cast<size_t>(v) * Isa::kWidth, Type::floats(sums[r][v]));
    }
  }
  if constexpr (Type::kIsScaled) {
    for (size_t r = 0; r < Rows; ++r) {
      for (size_t i = 0; i < to_stride; i += Isa::kWidth) {
        auto sum = Isa::mul(Isa::load(raw + r * to_stride + i), Isa::all(scales.rows[r]));
        if (scales.lanes != nullptr) sum = Isa::mul(sum, Isa::load(scales.lanes + i));
        if (more) sum = Isa::add(sum, Isa::load(c + r * c_stride + i));
        Isa::store(c + r * c_stride + i, sum);
      }
    }
  }
}

template <class Isa, class Type, int Vecs, int Rows = Isa::kRows>
inline void product_rows(size_t rows, const float* a, size_t a_stride, Panel b, size_t steps, float* c, size_t c_stride,
                         Scales scales, bool more, Ahead ahead) {
  if constexpr (Rows > 1) {
    if (rows < Rows) {
      return product_rows<Isa, Type, Vecs, Rows - 1>(rows, a, a_stride, b, steps, c, c_stride, scales, more, ahead);
    }
  }
  product_tile<Isa, Type, Rows, Vecs>(a, a_stride, b, steps, c, c_stride, scales, more, ahead);
}

// c[r][16 g + lane] = sum over k of a[r][k] * b[k][16 g + lane] for all rows and lane groups.
template <class Isa, class Type>
void product(size_t rows, size_t groups, const float* a, size_t a_stride, Panel b, size_t steps, float* c,
             size_t c_stride, Ahead& ahead, Scales scales = {}, bool more = false) {
  constexpr int kParts = static_cast<int>(kKvLanes / Isa::kWidth);
  constexpr size_t kGroups = Isa::kVecs / kParts;
  const size_t tiles = (rows + Isa::kRows - 1) / Isa::kRows;
  for (size_t g = 0; g < groups; g += kGroups) {
    const Panel panel{b.data + g * b.group, b.step, b.group};
    const float* lanes = scales.lanes == nullptr ? nullptr : scales.lanes + g * kKvLanes;
    // As much as is read here
    const size_t lines = (lesser(kGroups, groups - g) * kKvLanes * Type::kLaneBytes / tiles + 63) / 64;
    for (size_t t = 0; t < tiles; ++t) {
      const Ahead part = ahead.take(steps, lines);
      const size_t first = rows * t / tiles, count = rows * (t + 1) / tiles - first;
      const float* at = a + first * a_stride;
      float* to = c + first * c_stride + g * kKvLanes;
      const Scales s{scales.rows + first, lanes};
      const auto run = [&]<int Groups>() {
        product_rows<Isa, Type, Groups * kParts>(count, at, a_stride, panel, steps, to, c_stride, s, more, part);
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

// Numbers as the product wants them: f32, or pairs of bf16 or of integers.
template <class Isa, class Type>
inline void store_rounded(void* to, size_t k, typename Isa::Vec v) {
  if constexpr (Type::kPair == 1) {
    Isa::store(static_cast<float*>(to) + k, v);
  } else if constexpr (Type::kIsScaled) {
    Isa::store_integers(static_cast<uint16_t*>(to) + k, v);
  } else {
    Isa::store_bf16(static_cast<uint16_t*>(to) + k, v);
  }
}

// The largest integer that numbers are rounded to; 256 times its product with 127 is one too.
constexpr float kMostInteger = 32767;

// Rounds n numbers times `scale`; returns what they are to be multiplied by, which is 1 but for integers. What is not finite
// spoils it, and so is not lost.
template <class Isa, class Type>
float round_row(const float* from, size_t n, float scale, float* to) {
  const auto numbers = [&](size_t k) {
    if (k + Isa::kWidth <= n) return Isa::load(from + k);
    float rest[kKvLanes] = {};
    __builtin_memcpy(rest, from + k, (n - k) * sizeof(float));
    return Isa::load(rest);
  };
  float unit = 1;
  if constexpr (Type::kIsScaled) {
    auto most = Isa::zero(), poison = Isa::zero();
    for (size_t k = 0; k < n; k += Isa::kWidth) {
      const auto v = numbers(k);
      most = Isa::max(Isa::max(v, Isa::sub(Isa::zero(), v)), most);
      poison = Isa::fma(v, Isa::zero(), poison);
    }
    unit = Isa::largest(most) * scale / kMostInteger;
    scale = unit > 0 ? scale / unit : 0;
    unit += Isa::sum(poison);
  }
  const auto s = Isa::all(scale);
  for (size_t k = 0; k < n; k += Isa::kWidth) store_rounded<Isa, Type>(to, k, Isa::mul(s, numbers(k)));
  return unit;
}

// Scores of positions [first, end) of a block, in place into their weights 2^(score - largest), as the product with the
// values wants them: zero elsewhere in [padded_first, padded_end), both multiples of 16. `value_scales` may be nullptr.
// Returns what the weights are to be multiplied by, as round_row does.
template <class Isa, class Type>
inline float soften(float* scores, size_t padded_first, size_t first, size_t end, size_t padded_end,
                    const float* value_scales, float& largest, float& sum) {
  constexpr size_t kWidth = Isa::kWidth;
  const float nothing = -std::numeric_limits<float>::infinity();
  const size_t begin = first / kWidth * kWidth, last = (end - 1) / kWidth * kWidth;
  Isa::store(scores + begin, Isa::keep(Isa::load(scores + begin), first - begin, kWidth, nothing));
  Isa::store(scores + last, Isa::keep(Isa::load(scores + last), 0, end - last, nothing));

  auto most = Isa::load(scores + last), odd = most;
  for (size_t i = begin; i < last; i += 2 * kWidth) {
    most = Isa::max(most, Isa::load(scores + i));
    odd = Isa::max(odd, Isa::load(scores + i + kWidth));  // the last one at most
  }
  largest = Isa::largest(Isa::max(most, odd));

  const auto from = Isa::all(largest);
  auto sums = Isa::zero();
  float unit = 1;
  if constexpr (Type::kIsScaled) {
    for (size_t i = begin; i <= last; i += kWidth) {
      const auto weight = power_of_two<Isa>(Isa::sub(Isa::load(scores + i), from));
      sums = Isa::add(sums, weight);
      const auto scaled = Isa::mul(weight, Isa::load(value_scales + i));
      Isa::store(scores + i, i < last ? scaled : Isa::keep(scaled, 0, end - last, 0.0f));  // scales beyond are none
    }
    unit = round_row<Isa, Type>(scores + begin, last + kWidth - begin, 1, scores + begin / 2);
  } else {
    for (size_t i = begin; i <= last; i += kWidth) {
      const auto weight = power_of_two<Isa>(Isa::sub(Isa::load(scores + i), from));
      sums = Isa::add(sums, weight);
      store_rounded<Isa, Type>(scores, i, weight);
    }
  }
  for (size_t i = padded_first; i < begin; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::zero());
  for (size_t i = last + kWidth; i < padded_end; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::zero());
  sum = Isa::sum(sums);
  return unit;
}

// Scores of positions [first, end) of a block, which are powers of two, in place into what each position breaks off the stick, from the
// last one on; otherwise as soften. `left` is what they leave.
template <class Isa, class Type>
inline float break_stick(float* scores, size_t padded_first, size_t first, size_t end, size_t padded_end, const float* value_scales,
                         float& left) {
  constexpr size_t kWidth = Isa::kWidth;
  const size_t begin = first / kWidth * kWidth, last = (end - 1) / kWidth * kWidth;

  // 2^-|score|: the smaller part of two that the larger one is 1 beside
  float power[kAttendBlock], weight[kAttendBlock];
  for (size_t i = begin; i <= last; i += kWidth) {
    const auto score = Isa::load(scores + i);
    const auto size = Isa::max(Isa::sub(Isa::zero(), score), score);
    Isa::store(power + i, power_of_two<Isa>(Isa::sub(Isa::zero(), size)));
    Isa::store(weight + i, Isa::zero());
  }
  left = 1;
  for (size_t i = end; i-- > first;) {
    const float larger = 1 / (1 + power[i]), smaller = power[i] * larger;
    weight[i] = left * (scores[i] < 0 ? smaller : larger);
    left *= scores[i] < 0 ? larger : smaller;
  }

  float unit = 1;
  if constexpr (Type::kIsScaled) {
    for (size_t i = begin; i <= last; i += kWidth) {
      const auto scaled = Isa::mul(Isa::load(weight + i), Isa::load(value_scales + i));
      Isa::store(scores + i, i < last ? scaled : Isa::keep(scaled, 0, end - last, 0.0f));  // scales beyond are none
    }
    unit = round_row<Isa, Type>(scores + begin, last + kWidth - begin, 1, scores + begin / 2);
  } else {
    for (size_t i = begin; i <= last; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::load(weight + i));
  }
  for (size_t i = padded_first; i < begin; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::zero());
  for (size_t i = last + kWidth; i < padded_end; i += kWidth) store_rounded<Isa, Type>(scores, i, Isa::zero());
  return unit;
}

// What earlier blocks found is for the part of the stick that later ones left.
template <class Isa>
void fold_sticks(const AttendState& from, const AttendState& into, size_t rows, size_t value_dim) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    if (from.sum[r] > 1) continue;  // it saw nothing
    const auto left = Isa::all(from.sum[r]);
    const float* x = from.mixed + r * from.stride;
    float* y = into.mixed + r * into.stride;
    for (size_t d = 0; d < value_dim; d += Isa::kWidth) Isa::store(y + d, Isa::fma(Isa::load(y + d), left, Isa::load(x + d)));
    into.sum[r] = (into.sum[r] > 1 ? 1 : into.sum[r]) * from.sum[r];
  }
}

template <class Isa>
void fold(const AttendState& from, const AttendState& into, size_t rows, size_t value_dim) noexcept {
  if (into.breaks_stick) return fold_sticks<Isa>(from, into, rows, value_dim);
  for (size_t first = 0; first < rows; first += Isa::kWidth) {
    // By how much what was known and what is new shrink
    const size_t count = lesser(Isa::kWidth, rows - first);
    float largest[Isa::kWidth] = {}, old[Isa::kWidth] = {}, added[Isa::kWidth] = {};
    for (size_t i = 0; i < count; ++i) {
      const float a = into.largest[first + i], b = from.largest[first + i];
      largest[i] = a < b ? b : a;
      old[i] = a - largest[i];
      added[i] = b - largest[i];
    }
    Isa::store(old, power_of_two<Isa>(Isa::load(old)));
    Isa::store(added, power_of_two<Isa>(Isa::load(added)));

    for (size_t i = 0; i < count; ++i) {
      const size_t r = first + i;
      if (from.sum[r] == 0) continue;  // it saw nothing
      into.largest[r] = largest[i];
      into.sum[r] = __builtin_fmaf(from.sum[r], added[i], into.sum[r] * old[i]);
      const auto shrink = Isa::all(old[i]), more = Isa::all(added[i]);
      const float* x = from.mixed + r * from.stride;
      float* y = into.mixed + r * into.stride;
      for (size_t d = 0; d < value_dim; d += Isa::kWidth) {
        Isa::store(y + d, Isa::fma(Isa::load(x + d), more, Isa::mul(Isa::load(y + d), shrink)));
      }
    }
  }
}

// Those of a block that will be read soon.
inline void fetch_scales(const KvView& kv) {
  if (kv.key_scales == nullptr) return;
  constexpr size_t kALine = 64 / sizeof(float);
  for (size_t i = 0; i < kv.key_scales_a_position() * kAttendBlock; i += kALine) __builtin_prefetch(kv.key_scales + i, 0, 2);
  for (size_t i = 0; i < kAttendBlock; i += kALine) __builtin_prefetch(kv.value_scales + i, 0, 2);
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
  float units[kAttendRows];  // of a row's integers
  for (size_t r = 0; r < rows.count; ++r) {
    units[r] = round_row<Isa, Type>(rows.query[r], kv.key_dim, rows.scale, query + r * query_stride);
  }
  constexpr size_t kBytes = Type::kLaneBytes / Type::kPair;
  const Panel keys{kv.keys + kBytes * padded_first * key_dim, kKvLanes * Type::kLaneBytes,
                   kKvLanes * key_dim * kBytes};
  const size_t value_dim = kv.padded_value_dim();
  Ahead ahead{kv.values, kBytes * kAttendBlock * value_dim};
  const size_t at_once = kv.key_scales == nullptr ? key_dim : kKeysPerScale;
  for (size_t d = 0; d < key_dim; d += at_once) {
    const size_t steps = lesser(at_once, key_dim - d) / Type::kPair;
    const float* scales = kv.key_scales == nullptr
                              ? nullptr
                              : kv.key_scales + d / kKeysPerScale * kAttendBlock + padded_first;
    product<Isa, Type>(rows.count, lanes / kKvLanes, query + d / Type::kPair, query_stride,
                       {keys.data + d / Type::kPair * keys.step, keys.step, keys.group}, steps, scores + padded_first,
                       kAttendBlock, ahead, {units, scales}, d > 0);
  }

  // Weights
  float* mixed = scores + kAttendRows * kAttendBlock;
  const AttendState part{mixed + kAttendRows * value_dim, mixed + kAttendRows * (value_dim + 1), mixed, value_dim};
  for (size_t r = 0; r < rows.count; ++r) {
    part.sum[r] = state.breaks_stick ? kWholeStick : 0;
    float* row = scores + r * kAttendBlock;
    if (first[r] < end[r] && state.breaks_stick) {
      units[r] = break_stick<Isa, Type>(row, padded_first, first[r], end[r], padded_end, kv.value_scales, part.sum[r]);
    } else if (first[r] < end[r]) {
      units[r] = soften<Isa, Type>(row, padded_first, first[r], end[r], padded_end, kv.value_scales, part.largest[r], part.sum[r]);
    } else {
      __builtin_memset(row, 0, kAttendBlock * sizeof(float));
    }
  }

  // Values
  const size_t steps = (most_end - padded_first + Type::kPair - 1) / Type::kPair;
  ahead = {};
  if (rows.next != nullptr) {
    fetch_scales(*rows.next);
    ahead = {rows.next->keys, kBytes * kAttendBlock * key_dim};
  }
  for (size_t d = 0; d < value_dim; d += kValuePanel) {
    const size_t width = kv.panel_width(d);
    const Panel panel{kv.values + kBytes * (d * kAttendBlock + padded_first * width), width * Type::kLaneBytes,
                      kKvLanes * Type::kLaneBytes};
    product<Isa, Type>(rows.count, width / kKvLanes, scores + padded_first / Type::kPair, kAttendBlock, panel, steps,
                       mixed + d, value_dim, ahead, {units});
  }
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
