// What attend_tile.h wants of AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include "kernel/attend_tile.h"

namespace moiety::kernel {
namespace {

struct AttendAvx2 {
  using Vec = __m256;
  static constexpr size_t kWidth = 8;
  static constexpr int kRows = 4, kVecs = 2;  // 8 sums, 2 vectors of pairs and a pair of a row in 16 registers

  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec all(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static float sum(Vec v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static float largest(Vec v) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  static Vec round(Vec v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Vec scale_unless_below(Vec v, Vec power, Vec x, float limit) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(power), 23);
    const Vec scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent));
    const Vec result = _mm256_blendv_ps(scaled, v, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_and_ps(result, _mm256_cmp_ps(x, all(limit), _CMP_NLT_UQ));
  }
  static Vec keep(Vec v, size_t first, size_t end, float other) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(first)), lane);
    const __m256i within = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end)), lane);
    return _mm256_blendv_ps(all(other), v, _mm256_castsi256_ps(_mm256_andnot_si256(before, within)));
  }
  // To nearest, ties to even; a NaN stays one.
  static void store_bf16(uint16_t* p, Vec v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i rounded = _mm256_srli_epi32(_mm256_or_si256(near, nan), 16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                                                     _mm256_extracti128_si256(rounded, 1)));
  }

  // To signed integers of 16 bits.
  static void store_integers(uint16_t* p, Vec v) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
  }

  struct Floats {
    using Sums = Vec;
    static constexpr bool kIsScaled = false;
    static Vec nothing() { return _mm256_setzero_ps(); }
    static Vec floats(Sums sums) { return sums; }
  };
  struct Single : Floats {
    using Wide = __m256;
    static constexpr size_t kPair = 1;
    static Vec all(uint32_t bits) { return _mm256_set1_ps(float_of(bits)); }
    static Vec dot(Vec a, Wide b, Vec sums) { return _mm256_fmadd_ps(a, b, sums); }
  };
  struct F32 : Single {
    static constexpr size_t kLaneBytes = 4;
    static Wide load(const std::byte* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  };
  struct F16 : Single {
    static constexpr size_t kLaneBytes = 2;
    static Wide load(const std::byte* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  };

  struct Pair {
    __m256 even, odd;
  };
  struct BF16 : Floats {
    using Wide = Pair;
    static constexpr size_t kPair = 2, kLaneBytes = 4;
    static Pair all(uint32_t bits) {
      return {_mm256_set1_ps(float_of(bits << 16)), _mm256_set1_ps(float_of(bits & 0xffff0000u))};
    }
    static Vec dot(Pair a, Wide b, Vec sums) {
      return _mm256_fmadd_ps(a.odd, b.odd, _mm256_fmadd_ps(a.even, b.even, sums));
    }
    static Wide load(const std::byte* p) {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      const __m256i odd = _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
      return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)), _mm256_castsi256_ps(odd)};
    }
  };
  struct Q8 {
    using Wide = __m256i;
    using Sums = __m256i;
    static constexpr bool kIsScaled = true;
    static constexpr size_t kPair = 2, kLaneBytes = 2;
    static Sums nothing() { return _mm256_setzero_si256(); }
    static Vec floats(Sums sums) { return _mm256_cvtepi32_ps(sums); }
    static Wide all(uint32_t bits) { return _mm256_set1_epi32(static_cast<int>(bits)); }
    static Wide load(const std::byte* p) {
      return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static Sums dot(Wide a, Wide b, Sums sums) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }
  };
};

}  // namespace
}  // namespace moiety::kernel
