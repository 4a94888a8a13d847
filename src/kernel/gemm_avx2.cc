// gemm.h for processors with AVX2 and FMA; see avx2.cc. A strip is two registers.
#include <immintrin.h>

#include <cstdint>

#define MOIETY_UNROLL _Pragma("GCC unroll 32")
#include "kernel/gemm_tile.h"

namespace moiety::kernel {
namespace {

struct Avx2Gemm {
  struct Words {
    __m256i half[2];
  };
  struct Sums {
    __m256 half[2];
  };
  static constexpr int kStrips = 1, kRows = 4;

  static Words load(const std::byte* p) {
    return {{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))}};
  }
  static void store(std::byte* p, const Words& w) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), w.half[0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), w.half[1]);
  }
  static void stream(std::byte* p, const Words& w) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), w.half[0]);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p + 32), w.half[1]);
  }
  static void fence() { _mm_sfence(); }
  // To bf16 in the upper halves of lanes, to the nearest, ties to even; lower halves are anything.
  static __m256i rounded(const float* x) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256 value = _mm256_castsi256_ps(bits);
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(up, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), is_nan);
  }
  static __m256i joined(__m256i lower, __m256i upper) { return _mm256_blend_epi16(_mm256_srli_epi32(lower, 16), upper, 0xaa); }
  static Words interleaved(const float* x, const float* y) {
    return {{joined(rounded(x), rounded(y)), joined(rounded(x + 8), rounded(y + 8))}};
  }
  static Words interleaved(const uint16_t* x, const uint16_t* y) {
    const auto words = [](const uint16_t* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); };
    const auto half = [&](int at) { return _mm256_or_si256(words(x + at), _mm256_slli_epi32(words(y + at), 16)); };
    return {{half(0), half(8)}};
  }
  static Words pairs(const float* x) {
    alignas(32) float even[16], odd[16];
    for (int i = 0; i < 16; ++i) {
      even[i] = x[2 * i];
      odd[i] = x[2 * i + 1];
    }
    return interleaved(even, odd);
  }
  static void turn(Words (&w)[16]) {
    alignas(32) uint32_t from[16][16], to[16][16];
    for (int i = 0; i < 16; ++i) store(reinterpret_cast<std::byte*>(from[i]), w[i]);
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) to[i][j] = from[j][i];
    }
    for (int i = 0; i < 16; ++i) w[i] = load(reinterpret_cast<const std::byte*>(to[i]));
  }

  static Sums none() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
  static Sums load_sums(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
  static void store_sums(float* p, const Sums& s) {
    _mm256_storeu_ps(p, s.half[0]);
    _mm256_storeu_ps(p + 8, s.half[1]);
  }
  static Sums plus(const Sums& a, const Sums& b) {
    return {{_mm256_add_ps(a.half[0], b.half[0]), _mm256_add_ps(a.half[1], b.half[1])}};
  }
  static Sums f32_product(const Sums& sum, const Words& w, const std::byte* a) {
    const __m256 x = _mm256_broadcast_ss(reinterpret_cast<const float*>(a));
    return {{_mm256_fmadd_ps(_mm256_castsi256_ps(w.half[0]), x, sum.half[0]),
             _mm256_fmadd_ps(_mm256_castsi256_ps(w.half[1]), x, sum.half[1])}};
  }
  static Sums bf16_product(const Sums& sum, const Words& w, const std::byte* a) {
    const __m256i pair = _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(a)));
    const auto lower = [](__m256i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)); };
    const auto upper = [](__m256i x) { return _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xffff0000)))); };
    Sums out = sum;
    MOIETY_UNROLL
    for (int h = 0; h < 2; ++h) {
      out.half[h] = _mm256_fmadd_ps(upper(w.half[h]), upper(pair), _mm256_fmadd_ps(lower(w.half[h]), lower(pair), out.half[h]));
    }
    return out;
  }
};

}  // namespace

const GemmKernels& gemm_avx2() { return Gemm<Avx2Gemm>::kTable; }

}  // namespace moiety::kernel
