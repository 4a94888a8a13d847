// Loaders of weight types that come in blocks or with scales apart, written once for every instruction set whose vectors
// are made of bytes in an SSE register. Included by avx2.cc and avx512.cc after tile.h; everything is in an unnamed
// namespace. What the bytes mean is written plainly in scalar.cc.
//
// `Simd` gives: kWidth (8 or 16), Vec, all(x), mul, add, sub, and of the first kWidth bytes of a register from_i8(bytes) and
// from_e4m3(bytes). Rows are whole blocks, so that only F8_E4M3 has a rest.
#pragma once

#include <immintrin.h>

#include "kernel/tile.h"

namespace moiety::kernel {
namespace {

inline float half_at(const std::byte* p) {
  unsigned short bits;
  __builtin_memcpy(&bits, p, 2);
  return _cvtsh_ss(bits);
}

// The first kWidth bytes at p, or the first n.
template <size_t kWidth>
__m128i bytes_at(const std::byte* p) {
  if constexpr (kWidth == 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
inline __m128i first_bytes(const std::byte* p, size_t n) {
  std::byte bytes[16] = {};
  __builtin_memcpy(bytes, p, n);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

// Bits `shift` and up of every byte, as many as `mask` has. shift is even and below 8.
inline __m128i bits_of(__m128i bytes, size_t shift, char mask) {
  return _mm_and_si128(_mm_srl_epi16(bytes, _mm_cvtsi32_si128(static_cast<int>(shift))), _mm_set1_epi8(mask));
}

// Elements k % 32 and up of a block of 32 nibbles: byte j holds element j below and element j + 16 above.
template <size_t kWidth>
__m128i nibbles_of_32(const std::byte* qs, size_t k) {
  return bits_of(bytes_at<kWidth>(qs + k % 16), k % 32 / 16 * 4, 15);
}

// 16 in every byte whose bit of a 32-bit word is set; bit k % 32 decides byte 0.
inline __m128i fifth_bits(const std::byte* word, size_t k) {
  unsigned int bits;
  __builtin_memcpy(&bits, word, 4);
  const __m128i spread = _mm_shuffle_epi8(_mm_cvtsi32_si128(static_cast<int>(bits >> k % 32)),
                                          _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const __m128i each = _mm_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(spread, each), each), _mm_set1_epi8(16));
}

// Four-bit floats, doubled so that they are integers.
inline __m128i e2m1_doubled(__m128i nibbles) {
  return _mm_shuffle_epi8(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12), nibbles);
}
// Half of 2^(b - 127).
inline float half_power_of_two(std::byte b) {
  const unsigned bits = b == std::byte{0} ? 0x00400000u : static_cast<unsigned>(b) << 23;
  float power;
  __builtin_memcpy(&power, &bits, 4);
  return power * 0.5f;
}

// The sixteen levels of IQ4_NL and IQ4_XS (base/bytes.h).
inline __m128i iq4_levels(__m128i nibbles) {
  return _mm_shuffle_epi8(_mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), nibbles);
}

// Elements k % 256 and up of a block of 256 bit pairs: quarters of each half share 32 bytes.
template <size_t kWidth>
__m128i pairs_of_256(const std::byte* bytes, size_t k) {
  return bits_of(bytes_at<kWidth>(bytes + k % 256 / 128 * 32 + k % 32), k % 128 / 32 * 2, 3);
}

// Scale and minimum of one of the eight sub-blocks of a K block: six bits each, packed in twelve bytes.
struct KScale {
  float scale, minimum;
};
inline KScale k_scale(const std::byte* packed, size_t sub) {
  const auto at = [&](size_t i) { return static_cast<unsigned>(packed[i]); };
  if (sub < 4) return {static_cast<float>(at(sub) & 63), static_cast<float>(at(sub + 4) & 63)};
  return {static_cast<float>((at(sub + 4) & 15) | (at(sub - 4) >> 6 << 4)),
          static_cast<float>((at(sub + 4) >> 4) | (at(sub) >> 6 << 4))};
}

template <class Simd>
struct Blocks {
  using Vec = typename Simd::Vec;
  static constexpr size_t kWidth = Simd::kWidth;

  static Vec scaled(__m128i q, float scale) { return Simd::mul(Simd::from_i8(q), Simd::all(scale)); }

  // A type whose row is its bytes and has no rest.
  struct Whole : ByteRow {
    static Vec vec_first(const std::byte*, size_t, size_t) { return Simd::zero(); }
  };

  struct Q8_0 : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 34;
      return scaled(bytes_at<kWidth>(block + 2 + k % 32), half_at(block));
    }
  };
  struct Q4_0 : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 18;
      return scaled(_mm_sub_epi8(nibbles_of_32<kWidth>(block + 2, k), _mm_set1_epi8(8)), half_at(block));
    }
  };
  struct Q4_1 : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 20;
      return Simd::add(scaled(nibbles_of_32<kWidth>(block + 4, k), half_at(block)), Simd::all(half_at(block + 2)));
    }
  };
  struct Q5_0 : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 22;
      const __m128i q = _mm_or_si128(nibbles_of_32<kWidth>(block + 6, k), fifth_bits(block + 2, k));
      return scaled(_mm_sub_epi8(q, _mm_set1_epi8(16)), half_at(block));
    }
  };
  struct Q5_1 : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 24;
      const __m128i q = _mm_or_si128(nibbles_of_32<kWidth>(block + 8, k), fifth_bits(block + 4, k));
      return Simd::add(scaled(q, half_at(block)), Simd::all(half_at(block + 2)));
    }
  };

  struct Q2_K : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 256 * 84;
      const auto both = static_cast<unsigned>(block[k % 256 / 16]);
      return Simd::sub(scaled(pairs_of_256<kWidth>(block + 16, k), half_at(block + 80) * static_cast<float>(both & 15)),
                       Simd::all(half_at(block + 82) * static_cast<float>(both >> 4)));
    }
  };
  struct Q3_K : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte *block = row + k / 256 * 110, *scales = block + 96;
      const size_t sub = k % 256 / 16;
      const int low = static_cast<int>(scales[sub % 8]) >> sub / 8 * 4 & 15;
      const int high = static_cast<int>(scales[8 + sub % 4]) >> sub / 4 * 2 & 3;
      const __m128i bit = _mm_set1_epi8(static_cast<char>(1u << k % 256 / 32));
      const __m128i is_set = _mm_cmpeq_epi8(_mm_and_si128(bytes_at<kWidth>(block + k % 32), bit), bit);
      const __m128i four_less = _mm_andnot_si128(is_set, _mm_set1_epi8(4));
      return scaled(_mm_sub_epi8(pairs_of_256<kWidth>(block + 32, k), four_less),
                    half_at(block + 108) * static_cast<float>((low | high << 4) - 32));
    }
  };

  struct Q4_K : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 256 * 144;
      const size_t sub = k % 256 / 32;
      const __m128i q = bits_of(bytes_at<kWidth>(block + 16 + sub / 2 * 32 + k % 32), sub % 2 * 4, 15);
      const KScale s = k_scale(block + 4, sub);
      return Simd::sub(scaled(q, half_at(block) * s.scale), Simd::all(half_at(block + 2) * s.minimum));
    }
  };
  struct Q5_K : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 256 * 176;
      const size_t sub = k % 256 / 32;
      const __m128i low = bits_of(bytes_at<kWidth>(block + 48 + sub / 2 * 32 + k % 32), sub % 2 * 4, 15);
      const __m128i bit = _mm_set1_epi8(static_cast<char>(1u << sub));
      const __m128i is_set = _mm_cmpeq_epi8(_mm_and_si128(bytes_at<kWidth>(block + 16 + k % 32), bit), bit);
      const __m128i q = _mm_or_si128(low, _mm_and_si128(is_set, _mm_set1_epi8(16)));
      const KScale s = k_scale(block + 4, sub);
      return Simd::sub(scaled(q, half_at(block) * s.scale), Simd::all(half_at(block + 2) * s.minimum));
    }
  };
  struct Q6_K : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 256 * 210;
      const size_t half = k % 256 / 128, quarter = k % 128 / 32;
      const __m128i low = bits_of(bytes_at<kWidth>(block + 64 * half + quarter % 2 * 32 + k % 32), quarter / 2 * 4, 15);
      const __m128i high = bits_of(bytes_at<kWidth>(block + 128 + 32 * half + k % 32), quarter * 2, 3);
      const __m128i q = _mm_sub_epi8(_mm_or_si128(low, _mm_slli_epi16(high, 4)), _mm_set1_epi8(32));
      const auto scale = static_cast<signed char>(block[192 + k % 256 / 16]);
      return scaled(q, half_at(block + 208) * static_cast<float>(scale));
    }
  };

  struct IQ4_NL : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 18;
      return scaled(iq4_levels(nibbles_of_32<kWidth>(block + 2, k)), half_at(block));
    }
  };
  struct IQ4_XS : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 256 * 136;
      const size_t sub = k % 256 / 32;
      const int low = static_cast<int>(block[4 + sub / 2]) >> sub % 2 * 4 & 15;
      const int high = static_cast<int>(block[2 + sub / 4]) >> sub % 4 * 2 & 3;
      return scaled(iq4_levels(nibbles_of_32<kWidth>(block + 8 + 16 * sub, k)),
                    half_at(block) * static_cast<float>((low | high << 4) - 32));
    }
  };

  struct MXFP4 : Whole {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 17;
      return scaled(e2m1_doubled(nibbles_of_32<kWidth>(block + 1, k)), half_power_of_two(block[0]));
    }
  };

  struct ScaledRow {
    const std::byte* data;
    const std::byte* scales;  // nullptr: none
    uint32_t block_cols;
  };
  struct Scaled {
    using Row = ScaledRow;
    static Row row(const WeightView& w, size_t r) {
      const size_t block_cols = w.scales.block_cols;
      return {w.row(r), w.scales.row(r), block_cols < UINT32_MAX ? static_cast<uint32_t>(block_cols) : UINT32_MAX};
    }
  };
  struct MXFP4_PLANES : Scaled {
    static Vec vec(ScaledRow row, size_t k) {
      const __m128i two = first_bytes(row.data + k / 2, kWidth / 2);
      const __m128i q = _mm_unpacklo_epi8(bits_of(two, 0, 15), bits_of(two, 4, 15));
      return scaled(e2m1_doubled(q), row.scales == nullptr ? 0.5f : half_power_of_two(row.scales[k / 32]));
    }
    static Vec vec_first(ScaledRow, size_t, size_t) { return Simd::zero(); }
  };
  struct F8_E4M3 : Scaled {
    static Vec decode(__m128i bytes, float scale) { return Simd::mul(Simd::from_e4m3(bytes), Simd::all(scale)); }
    static float scale_at(ScaledRow row, size_t k) {
      if (row.scales == nullptr) return 1.0f;
      float scale;
      __builtin_memcpy(&scale, row.scales + 4 * (static_cast<uint32_t>(k) / row.block_cols), 4);
      return scale;
    }
    static Vec vec(ScaledRow row, size_t k) { return decode(bytes_at<kWidth>(row.data + k), scale_at(row, k)); }
    static Vec vec_first(ScaledRow row, size_t k, size_t n) {
      return decode(first_bytes(row.data + k, n), scale_at(row, k));
    }
  };
};

}  // namespace
}  // namespace moiety::kernel
