// What attend_tile.h wants of AVX-512 with BF16.
#pragma once

#include <immintrin.h>

#include "kernel/attend_tile.h"

namespace moiety::kernel {
namespace {

struct AttendAvx512 {
  using Vec = __m512;
  static constexpr size_t kWidth = 16;
  static constexpr int kRows = 6, kVecs = 4;  // 24 sums, 4 vectors and 1 number of a row in 32 registers

  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec all(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static float sum(Vec v) { return _mm512_reduce_add_ps(v); }
  static float largest(Vec v) { return _mm512_reduce_max_ps(v); }
  static Vec round(Vec v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Vec scale_unless_below(Vec v, Vec power, Vec x, float limit) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, all(limit), _CMP_NLT_UQ), v, power);
  }
  static Vec keep(Vec v, size_t first, size_t end, float other) {
    const auto lanes = static_cast<__mmask16>((1u << end) - (1u << first));
    return _mm512_mask_mov_ps(all(other), lanes, v);
  }
  static void store_bf16(uint16_t* p, Vec v) {
    const __m256bh rounded = _mm512_cvtneps_pbh(v);
    __builtin_memcpy(p, &rounded, sizeof rounded);
  }

  // To signed integers of 16 bits.
  static void store_integers(uint16_t* p, Vec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
  }

  struct Floats {
    using Sums = Vec;
    static constexpr bool kIsScaled = false;
    static Vec nothing() { return _mm512_setzero_ps(); }
    static Vec floats(Sums sums) { return sums; }
  };
  struct Single : Floats {
    using Wide = __m512;
    static constexpr size_t kPair = 1;
    static Vec all(uint32_t bits) { return _mm512_set1_ps(float_of(bits)); }
    static Vec dot(Vec a, Wide b, Vec sums) { return _mm512_fmadd_ps(a, b, sums); }
  };
  struct F32 : Single {
    static constexpr size_t kLaneBytes = 4;
    static Wide load(const std::byte* p) { return _mm512_loadu_ps(p); }
  };
  struct F16 : Single {
    static constexpr size_t kLaneBytes = 2;
    static Wide load(const std::byte* p) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
  };

  struct BF16 : Floats {
    using Wide = __m512bh;
    static constexpr size_t kPair = 2, kLaneBytes = 4;
    static Wide all(uint32_t bits) { return as_pairs(_mm512_set1_epi32(static_cast<int>(bits))); }
    static Vec dot(Wide a, Wide b, Vec sums) { return _mm512_dpbf16_ps(sums, a, b); }
    static Wide as_pairs(__m512i bits) { return reinterpret_cast<Wide>(bits); }
    static Wide load(const std::byte* p) { return as_pairs(_mm512_loadu_si512(p)); }
  };
  struct Q8 {
    using Wide = __m512i;
    // With the instruction's own type of element g++ 12 keeps an array of sums in registers.
    using Sums = __v16si;
    static constexpr bool kIsScaled = true;
    static constexpr size_t kPair = 2, kLaneBytes = 2;
    static Sums nothing() { return Sums{}; }
    static Vec floats(Sums sums) { return _mm512_cvtepi32_ps(reinterpret_cast<__m512i>(sums)); }
    static Wide all(uint32_t bits) { return _mm512_set1_epi32(static_cast<int>(bits)); }
    static Wide load(const std::byte* p) {
      return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static Sums dot(Wide a, Wide b, Sums sums) {
      return reinterpret_cast<Sums>(_mm512_dpwssd_epi32(reinterpret_cast<__m512i>(sums), a, b));
    }
  };
};

}  // namespace
}  // namespace moiety::kernel
