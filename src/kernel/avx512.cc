// For processors with AVX-512 F, BW, DQ, VL, VNNI and BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later).
#include <immintrin.h>

#include "kernel/activate.h"
#include "kernel/attend_avx512.h"
#include "kernel/blocks.h"
#include "kernel/gemm.h"
#include "kernel/packed.h"
#include "kernel/peak_loops.h"
#include "kernel/round.h"

namespace moiety::kernel {
namespace {

struct Avx512Vectors {
  using Vec = __m512;
  static constexpr size_t kWidth = 16;
  static constexpr int kTileTokens = 6, kTileRows = 4;  // 24 sums, 4 rows and 1 token in 32 registers

  static __mmask16 first(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec all(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load_first(const float* p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Vec v) { return _mm512_reduce_add_ps(v); }

  static Vec from_i8(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }
  // Exponent and mantissa of E4M3 are those of a half that is 2^8 smaller; 0x7f is a NaN.
  static Vec from_e4m3(__m128i bytes) {
    const __m256i words = _mm256_cvtepu8_epi16(bytes), seven = _mm256_set1_epi16(0x7f);
    const __m256i low = _mm256_and_si256(words, seven);
    const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(low, seven), _mm256_set1_epi16(0x7c00));
    const __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(seven, words), 8);
    return mul(_mm512_cvtph_ps(_mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(low, 7))), all(256.0f));
  }

  struct F32 : ByteRow {
    static Vec vec(const std::byte* row, size_t k) { return _mm512_loadu_ps(row + 4 * k); }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return _mm512_maskz_loadu_ps(first(n), row + 4 * k);
    }
  };
  struct F16 : ByteRow {
    static Vec vec(const std::byte* row, size_t k) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2 * k)));
    }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), row + 2 * k));
    }
  };
  struct BF16 : ByteRow {
    static Vec widen(__m256i bits) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    static Vec vec(const std::byte* row, size_t k) {
      return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2 * k)));
    }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return widen(_mm256_maskz_loadu_epi16(first(n), row + 2 * k));
    }
  };
};

struct Avx512 : Avx512Vectors, Blocks<Avx512Vectors> {
  using Avx512Vectors::Vec, Avx512Vectors::kWidth;
};

}  // namespace

const Kernels& avx512_kernels() {
  static const Kernels kernels{.name = "avx512",
                               .linear = linear<Avx512>,
                               .add_scaled = add_scaled<Avx512>,
                               .attend = attend<AttendAvx512>,
                               .fold = fold<AttendAvx512>,
                               .activate = activate,
                               .round_activations = round_activations,
                               .packed_linear = packed_linear_avx512,
                               .gemm = &gemm_avx512()};
  return kernels;
}

namespace {

struct Bf16Step {
  using Sum = __m512;
  static constexpr int kSums = 16;
  static constexpr double kOps = 64;
  static Sum start() { return _mm512_setzero_ps(); }
  static Sum add(Sum sum) {
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f80);
    return _mm512_dpbf16_ps(sum, x, x);
  }
  static float first(Sum sum) { return _mm512_cvtss_f32(sum); }
};

struct Int8Step {
  using Sum = __m512i;
  static constexpr int kSums = 12;
  static constexpr double kOps = 128;
  static Sum start() { return _mm512_setzero_si512(); }
  static Sum add(Sum sum) { return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(3), _mm512_set1_epi8(-5)); }
  static float first(Sum sum) { return static_cast<float>(_mm512_cvtsi512_si32(sum)); }
};

}  // namespace

const Peaks& avx512_peaks() {
  static constexpr Peaks kPeaks{peak_loop<F32Step<Avx512>>, peak_loop<Bf16Step>, peak_loop<Int8Step>, read_all<Avx512>};
  return kPeaks;
}

}  // namespace moiety::kernel
