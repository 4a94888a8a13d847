// The definition of correct, in plain C++ for any processor.
#include <cstring>

#include "base/bytes.h"
#include "kernel/attend_plain.h"
#include "kernel/activate.h"
#include "kernel/gemm.h"
#include "kernel/kernels.h"
#include "kernel/packed.h"
#include "kernel/round.h"

namespace moiety::kernel {
namespace {

using spec::ElementType;

// Sums are kept in so many lanes, which compilers turn into the vectors of any machine.
constexpr size_t kLanes = 16;

float sum_of(const float (&lanes)[kLanes]) {
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

template <class T>
T load_as(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Element k of row r.
using Row = const std::byte*;

struct Whole {
  static Row row(const WeightView& w, size_t r) { return w.row(r); }
};
struct F32 : Whole {
  static float at(Row row, size_t k) { return load_as<float>(row + 4 * k); }
};
struct F16 : Whole {
  static float at(Row row, size_t k) { return half_to_float(load_as<uint16_t>(row + 2 * k)); }
};
struct BF16 : Whole {
  static float at(Row row, size_t k) { return bf16_to_float(load_as<uint16_t>(row + 2 * k)); }
};

float half_at(const std::byte* p) { return half_to_float(load_as<uint16_t>(p)); }
int byte_at(const std::byte* p) { return static_cast<int>(*p); }

// Blocks of 32: a half-precision scale, in some a minimum, the fifth bits; then byte j holds the low four bits of element j
// in its lower half and those of element j + 16 in its upper half.
int nibble(const std::byte* bytes, size_t j) { return byte_at(bytes + j % 16) >> j / 16 * 4 & 15; }
int fifth_bit(const std::byte* word, size_t j) { return static_cast<int>(load_as<uint32_t>(word) >> j & 1) << 4; }

struct Q8_0 : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 34;
    return half_at(block) * static_cast<float>(load_as<int8_t>(block + 2 + k % 32));
  }
};
struct Q4_0 : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 18;
    return half_at(block) * static_cast<float>(nibble(block + 2, k % 32) - 8);
  }
};
struct Q4_1 : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 20;
    return half_at(block) * static_cast<float>(nibble(block + 4, k % 32)) + half_at(block + 2);
  }
};
struct Q5_0 : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 22;
    return half_at(block) * static_cast<float>((nibble(block + 6, k % 32) | fifth_bit(block + 2, k % 32)) - 16);
  }
};
struct Q5_1 : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 24;
    return half_at(block) * static_cast<float>(nibble(block + 8, k % 32) | fifth_bit(block + 4, k % 32)) +
           half_at(block + 2);
  }
};

// Blocks of 256. Q4_K and Q5_K have eight sub-blocks of 32 with a six-bit scale and minimum each, in twelve bytes: those of
// the first four lie in the lower six bits of bytes 0 to 3 and 4 to 7; those of the last four have their lower halves in
// bytes 8 to 11 and their upper two bits on top of the first ones.
int k_scale(const std::byte* packed, size_t sub) {
  if (sub < 4) return byte_at(packed + sub) & 63;
  return (byte_at(packed + sub + 4) & 15) | (byte_at(packed + sub - 4) >> 6 << 4);
}
int k_minimum(const std::byte* packed, size_t sub) {
  if (sub < 4) return byte_at(packed + sub + 4) & 63;
  return byte_at(packed + sub + 4) >> 4 | (byte_at(packed + sub) >> 6 << 4);
}
// Sub-blocks 2i and 2i + 1 share 32 bytes, the lower halves and the upper ones.
int k_nibble(const std::byte* bytes, size_t e) { return byte_at(bytes + e / 64 * 32 + e % 32) >> e % 64 / 32 * 4 & 15; }

float k_value(const std::byte* block, size_t sub, int q) {
  return half_at(block) * static_cast<float>(k_scale(block + 4, sub)) * static_cast<float>(q) -
         half_at(block + 2) * static_cast<float>(k_minimum(block + 4, sub));
}
struct Q4_K : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 256 * 144;
    return k_value(block, k % 256 / 32, k_nibble(block + 16, k % 256));
  }
};
struct Q5_K : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 256 * 176;
    const size_t sub = k % 256 / 32;
    return k_value(block, sub, k_nibble(block + 48, k % 256) | (byte_at(block + 16 + k % 32) >> sub & 1) << 4);
  }
};
// Two halves of 128; of each 64 bytes of low nibbles and 32 bytes of upper bit pairs, then sixteen signed scales.
struct Q6_K : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 256 * 210;
    const size_t half = k % 256 / 128, quarter = k % 128 / 32;
    const int low = byte_at(block + 64 * half + quarter % 2 * 32 + k % 32) >> quarter / 2 * 4 & 15;
    const int high = byte_at(block + 128 + 32 * half + k % 32) >> quarter * 2 & 3;
    const int8_t scale = load_as<int8_t>(block + 192 + k % 256 / 16);
    return half_at(block + 208) * static_cast<float>(scale) * static_cast<float>((low | high << 4) - 32);
  }
};

// Sub-blocks of 16. Quarters of each half of the block share bytes, two bits an element.
int bit_pair(const std::byte* bytes, size_t e) { return byte_at(bytes + e / 128 * 32 + e % 32) >> e % 128 / 32 * 2 & 3; }

struct Q2_K : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 256 * 84;
    const int both = byte_at(block + k % 256 / 16);  // the sub-block's scale and, above it, its minimum
    return half_at(block + 80) * static_cast<float>(both & 15) * static_cast<float>(bit_pair(block + 16, k % 256)) -
           half_at(block + 82) * static_cast<float>(both >> 4);
  }
};
// Third bits, bit pairs, then sixteen scales of six bits less 32: lower halves in eight bytes, upper two bits in four.
struct Q3_K : Whole {
  static float at(Row row, size_t k) {
    const std::byte *block = row + k / 256 * 110, *scales = block + 96;
    const size_t sub = k % 256 / 16;
    const int low = byte_at(scales + sub % 8) >> sub / 8 * 4 & 15, high = byte_at(scales + 8 + sub % 4) >> sub / 4 * 2 & 3;
    const int q = bit_pair(block + 32, k % 256) | (byte_at(block + k % 32) >> k % 256 / 32 & 1) << 2;
    return half_at(block + 108) * static_cast<float>((low | high << 4) - 32) * static_cast<float>(q - 4);
  }
};

struct IQ4_NL : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 18;
    return half_at(block) * static_cast<float>(iq4_level(nibble(block + 2, k % 32)));
  }
};
// Eight of those under one scale, with scales of six bits less 32: upper two bits in a word, lower four as nibbles.
struct IQ4_XS : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 256 * 136;
    const size_t sub = k % 256 / 32;
    const int low = byte_at(block + 4 + sub / 2) >> sub % 2 * 4 & 15, high = load_as<uint16_t>(block + 2) >> 2 * sub & 3;
    return half_at(block) * static_cast<float>((low | high << 4) - 32) *
           static_cast<float>(iq4_level(nibble(block + 8 + 16 * sub, k % 32)));
  }
};

struct MXFP4 : Whole {
  static float at(Row row, size_t k) {
    const std::byte* block = row + k / 32 * 17;
    return e8m0_to_float(static_cast<uint8_t>(*block)) * e2m1_to_float(nibble(block + 1, k % 32));
  }
};

struct ScaledRow {
  const std::byte *data, *scales;
  size_t block_cols;
};
struct Scaled {
  static ScaledRow row(const WeightView& w, size_t r) { return {w.row(r), w.scales.row(r), w.scales.block_cols}; }
};
struct MXFP4_PLANES : Scaled {
  static float at(ScaledRow row, size_t k) {
    const float scale = row.scales == nullptr ? 1 : e8m0_to_float(static_cast<uint8_t>(row.scales[k / 32]));
    return scale * e2m1_to_float(byte_at(row.data + k / 2) >> k % 2 * 4 & 15);
  }
};
struct F8_E4M3 : Scaled {
  static float at(ScaledRow row, size_t k) {
    const float scale = row.scales == nullptr ? 1 : load_as<float>(row.scales + 4 * (k / row.block_cols));
    return e4m3_to_float(static_cast<uint8_t>(row.data[k])) * scale;
  }
};

template <class Type>
float dot_row(const float* x, const WeightView& w, size_t r) {
  const auto row = Type::row(w, r);
  float lanes[kLanes] = {};
  for (size_t k = 0; k < w.cols; ++k) lanes[k % kLanes] += x[k] * Type::at(row, k);
  return sum_of(lanes);
}

void linear(const float* const* x_T, size_t tokens, const WeightView& w, size_t first_row, size_t rows, float* y,
            size_t y_stride) noexcept {
  const auto run = [&]<class Type>(Type) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t t = 0; t < tokens; ++t) y[t * y_stride + r] = dot_row<Type>(x_T[t], w, first_row + r);
    }
  };
  switch (w.type) {
    case ElementType::F32:
      return run(F32());
    case ElementType::F16:
      return run(F16());
    case ElementType::BF16:
      return run(BF16());
    case ElementType::Q8_0:
      return run(Q8_0());
    case ElementType::Q4_0:
      return run(Q4_0());
    case ElementType::Q4_1:
      return run(Q4_1());
    case ElementType::Q5_0:
      return run(Q5_0());
    case ElementType::Q5_1:
      return run(Q5_1());
    case ElementType::Q2_K:
      return run(Q2_K());
    case ElementType::Q3_K:
      return run(Q3_K());
    case ElementType::Q4_K:
      return run(Q4_K());
    case ElementType::Q5_K:
      return run(Q5_K());
    case ElementType::Q6_K:
      return run(Q6_K());
    case ElementType::IQ4_NL:
      return run(IQ4_NL());
    case ElementType::IQ4_XS:
      return run(IQ4_XS());
    case ElementType::MXFP4:
      return run(MXFP4());
    case ElementType::MXFP4_PLANES:
      return run(MXFP4_PLANES());
    case ElementType::F8_E4M3:
      return run(F8_E4M3());
    default:
      return;  // ModelFile lets only weight types through
  }
}

void add_scaled(float factor, const float* x, float* y, size_t n) noexcept {
  for (size_t k = 0; k < n; ++k) y[k] += factor * x[k];
}

}  // namespace

const Kernels& scalar_kernels() {
  static const Kernels kernels{.name = "scalar",
                               .linear = linear,
                               .add_scaled = add_scaled,
                               .attend = attend_plainly,
                               .fold = fold_plainly,
                               .activate = activate,
                               .round_activations = round_activations,
                               .packed_linear = packed_linear_scalar,
                               .gemm = &gemm_scalar()};
  return kernels;
}

}  // namespace moiety::kernel
