// For processors with AVX-512 F, BW and VL. Compiled with their flags; see kernel/build of the layer in CMake.
#include <immintrin.h>

#include "kernel/tile.h"

namespace moiety::kernel {
namespace {

struct Avx512 {
  using Vec = __m512;
  static constexpr size_t kWidth = 16;
  static constexpr int kTileTokens = 6, kTileRows = 4;  // 24 sums, 4 rows and 1 token in 32 registers

  static __mmask16 first(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec all(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load_first(const float* p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Vec v) { return _mm512_reduce_add_ps(v); }

  struct F32 {
    static Vec vec(const std::byte* row, size_t k) { return _mm512_loadu_ps(row + 4 * k); }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return _mm512_maskz_loadu_ps(first(n), row + 4 * k);
    }
  };
  struct F16 {
    static Vec vec(const std::byte* row, size_t k) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2 * k)));
    }
    static Vec vec_first(const std::byte* row, size_t k, size_t n) {
      return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), row + 2 * k));
    }
  };
  struct BF16 {
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
  struct Q8_0 {
    static Vec vec(const std::byte* row, size_t k) {
      const std::byte* block = row + k / 32 * 34;
      unsigned short scale;
      __builtin_memcpy(&scale, block, 2);
      const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 2 + k % 32));
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), _mm512_set1_ps(_cvtsh_ss(scale)));
    }
    // Rows are whole blocks of 32: there is no rest.
    static Vec vec_first(const std::byte*, size_t, size_t) { return zero(); }
  };
};

}  // namespace

const Kernels& avx512_kernels() {
  static const Kernels kernels{"avx512", linear<Avx512>, dot<Avx512>, add_scaled<Avx512>};
  return kernels;
}

}  // namespace moiety::kernel
