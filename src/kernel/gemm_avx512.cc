// gemm.h for processors with AVX-512; see avx512.cc.
#include <immintrin.h>

#define MOIETY_UNROLL _Pragma("GCC unroll 32")
#include "kernel/gemm_tile.h"

namespace moiety::kernel {
namespace {

struct Avx512Gemm {
  using Words = __m512i;
  using Sums = __m512;
  static constexpr int kStrips = 4, kRows = 6;

  static Words load(const std::byte* p) {
    Words w = _mm512_loadu_si512(p);
    asm("" : "+v"(w));  // once, into a register: compilers would rather load again for each use
    return w;
  }
  static void store(std::byte* p, Words w) { _mm512_storeu_si512(p, w); }
  static void stream(std::byte* p, Words w) { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), w); }
  static void fence() { _mm_sfence(); }
  static Words pairs(const float* x) { return (Words)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x)); }
  static Words interleaved(const float* x, const float* y) {
    const Words lower = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x)));
    const Words upper = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(y)));
    return _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16));
  }
  static Words interleaved(const uint16_t* x, const uint16_t* y) {
    const auto words = [](const uint16_t* p) {
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    };
    return _mm512_or_si512(words(x), _mm512_slli_epi32(words(y), 16));
  }
  // In four rounds: neighbours of 1, 2, 4 and 8 words.
  static void turn(Words (&w)[16]) {
    Words x[16];
    MOIETY_UNROLL
    for (int i = 0; i < 16; i += 2) {
      x[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
      x[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
    }
    MOIETY_UNROLL
    for (int i = 0; i < 16; i += 4) {
      w[i] = _mm512_unpacklo_epi64(x[i], x[i + 2]);
      w[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 2]);
      w[i + 2] = _mm512_unpacklo_epi64(x[i + 1], x[i + 3]);
      w[i + 3] = _mm512_unpackhi_epi64(x[i + 1], x[i + 3]);
    }
    // Now quarter q of w[4 j + i] has column 4 q + i of rows 4 j to 4 j + 3
    MOIETY_UNROLL
    for (int i = 0; i < 4; ++i) {
      const Words a = _mm512_shuffle_i32x4(w[i], w[4 + i], 0x88), b = _mm512_shuffle_i32x4(w[8 + i], w[12 + i], 0x88);
      const Words c = _mm512_shuffle_i32x4(w[i], w[4 + i], 0xdd), d = _mm512_shuffle_i32x4(w[8 + i], w[12 + i], 0xdd);
      x[i] = _mm512_shuffle_i32x4(a, b, 0x88);
      x[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
      x[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
      x[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
    MOIETY_UNROLL
    for (int i = 0; i < 16; ++i) w[i] = x[i];
  }

  static Sums none() { return _mm512_setzero_ps(); }
  static Sums load_sums(const float* p) { return _mm512_loadu_ps(p); }
  static void store_sums(float* p, Sums s) { _mm512_storeu_ps(p, s); }
  static Sums plus(Sums a, Sums b) { return _mm512_add_ps(a, b); }
  static int word(const std::byte* a) {
    int value;
    __builtin_memcpy(&value, a, 4);
    return value;
  }
  static Sums f32_product(Sums sum, Words w, const std::byte* a) {
    return _mm512_fmadd_ps((Sums)w, (Sums)_mm512_set1_epi32(word(a)), sum);
  }
  static Sums bf16_product(Sums sum, Words w, const std::byte* a) {
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(word(a)));
  }
};

}  // namespace

const GemmKernels& gemm_avx512() { return Gemm<Avx512Gemm>::kTable; }

}  // namespace moiety::kernel
