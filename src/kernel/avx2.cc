// For processors with AVX2, FMA and F16C.
#include <immintrin.h>

#include "kernel/activate.h"
#include "kernel/attend_avx2.h"
#include "kernel/blocks.h"
#include "kernel/gemm.h"
#include "kernel/packed.h"
#include "kernel/peak_loops.h"
#include "kernel/round.h"

namespace moiety::kernel {
namespace {

struct Avx2Vectors {
  using Vec = __m256;
  static constexpr size_t kWidth = 8;
  static constexpr int kTileTokens = 4, kTileRows = 2;  // 8 sums, 2 rows and 1 token in 16 registers

  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec all(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static __m256i first(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec load_first(const float* p, size_t n) { return _mm256_maskload_ps(p, first(n)); }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Vec v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }

  static Vec from_i8(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)); }
  // Exponent and mantissa of E4M3 are those of a half that is 2^8 smaller; 0x7f is a NaN.
  static Vec from_e4m3(__m128i bytes) {
    const __m128i words = _mm_cvtepu8_epi16(bytes), seven = _mm_set1_epi16(0x7f);
    const __m128i low = _mm_and_si128(words, seven);
    const __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(low, seven), _mm_set1_epi16(0x7c00));
    const __m128i sign = _mm_slli_epi16(_mm_andnot_si128(seven, words), 8);
    return mul(_mm256_cvtph_ps(_mm_or_si128(_mm_or_si128(sign, nan), _mm_slli_epi16(low, 7))), all(256.0f));
  }

  // The first n 16-bit numbers of a row that ends there, the rest zero.
  static __m128i load_first_16(const std::byte* p, size_t n) {
    unsigned short eight[8] = {};
    __builtin_memcpy(eight, p, 2 * n);
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(eight));
  }

  struct F32 : ByteRow {
    static Vec vec(const std::byte* row, size_t k) {
      return _mm256_loadu_ps(reinterpret_cast<const float*>(row + 4 * k));
    }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return _mm256_maskload_ps(reinterpret_cast<const float*>(row + 4 * k), first(n));
    }
  };
  struct F16 : ByteRow {
    static Vec vec(const std::byte* row, size_t k) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * k)));
    }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return _mm256_cvtph_ps(load_first_16(row + 2 * k, n));
    }
  };
  struct BF16 : ByteRow {
    static Vec widen(__m128i bits) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)); }
    static Vec vec(const std::byte* row, size_t k) {
      return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * k)));
    }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) { return widen(load_first_16(row + 2 * k, n)); }
  };
};

struct Avx2 : Avx2Vectors, Blocks<Avx2Vectors> {
  using Avx2Vectors::Vec, Avx2Vectors::kWidth;
};

}  // namespace

const Kernels& avx2_kernels() {
  static const Kernels kernels{.name = "avx2",
                               .linear = linear<Avx2>,
                               .add_scaled = add_scaled<Avx2>,
                               .attend = attend<AttendAvx2>,
                               .fold = fold<AttendAvx2>,
                               .activate = activate,
                               .round_activations = round_activations,
                               .packed_linear = packed_linear_avx2,
                               .gemm = &gemm_avx2()};
  return kernels;
}

namespace {

// Bytes to pairs of words to fours of words, as integer kernels do without VNNI.
struct Int8Step {
  using Sum = __m256i;
  static constexpr int kSums = 6;
  static constexpr double kOps = 64;
  static Sum start() { return _mm256_setzero_si256(); }
  static Sum add(Sum sum) {
    __m256i x = _mm256_set1_epi8(3);
    asm volatile("" : "+x"(x));  // else the product, always the same, is taken once
    const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi8(-5));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static float first(Sum sum) { return static_cast<float>(_mm256_cvtsi256_si32(sum)); }
};

}  // namespace

const Peaks& avx2_peaks() {
  static constexpr Peaks kPeaks{peak_loop<F32Step<Avx2>>, nullptr, peak_loop<Int8Step>, read_all<Avx2>};
  return kPeaks;
}

}  // namespace moiety::kernel
