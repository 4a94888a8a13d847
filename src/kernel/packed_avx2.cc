// The packed kernels for processors with AVX2; see avx2.cc.
#include <immintrin.h>

#define MOIETY_UNROLL _Pragma("GCC unroll 16")
#include "kernel/packed_tile.h"

namespace moiety::kernel {
namespace {

// Half of a strip's rows in one register.
struct Avx2Packed {
  using Bytes = __m256i;
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kRows = 8;
  static constexpr bool kManyRegisters = false;
  static constexpr bool kMovesSigned = true;

  static __m128i eight(const std::byte* p, int part) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * part));
  }
  static Ints everywhere(const std::byte* p) {
    int value;
    __builtin_memcpy(&value, p, 4);
    return _mm256_set1_epi32(value);
  }

  static Bytes load(const std::byte* vector, int part) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(vector + 32 * part));
  }
  static void store(std::byte* vector, int part, Bytes b) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(vector + 32 * part), b);
  }
  template <int kFrom, int kTo, int kMask>
  static Bytes bits(Bytes b) {
    if constexpr (kFrom > kTo) b = _mm256_srli_epi16(b, kFrom - kTo);
    if constexpr (kFrom < kTo) b = _mm256_slli_epi16(b, kTo - kFrom);
    return _mm256_and_si256(b, _mm256_set1_epi8(static_cast<char>(kMask << kTo)));
  }
  static Bytes either(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
  static Bytes minus_32(Bytes b) { return _mm256_sub_epi8(b, _mm256_set1_epi8(32)); }
  static Bytes look_up(const uint8_t* table, Bytes nibbles) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), nibbles);
  }

  static Ints no_ints() { return _mm256_setzero_si256(); }
  static Ints all_ints(const std::byte* p) { return everywhere(p); }
  // Two products are added in 16 bits: 2 * 127 * 127 and less fit, 2 * 255 * 127 would not; so bytes that are 128 above their
  // values go as magnitudes, their signs with the activations.
  template <bool kSigned>
  static Ints four_products(Ints sum, Bytes w, const std::byte* a) {
    Ints activations = everywhere(a);
    if constexpr (kSigned) {
      const Bytes value = _mm256_xor_si256(w, _mm256_set1_epi8(static_cast<char>(0x80)));
      activations = _mm256_sign_epi8(activations, value);
      w = _mm256_abs_epi8(value);
    }
    return plus(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, activations), _mm256_set1_epi16(1)));
  }
  static Ints two_products(Ints sum, Ints pairs, const std::byte* a) {
    return plus(sum, _mm256_madd_epi16(pairs, everywhere(a)));
  }
  static Ints multiply(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
  static Ints plus(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints minus(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  template <int kPower>
  static Ints times_power(Ints a) { return _mm256_slli_epi32(a, kPower); }
  static Ints unsigned_bytes(const std::byte* p, int part) { return _mm256_cvtepu8_epi32(eight(p, part)); }
  static Ints signed_bytes(const std::byte* p, int part) { return _mm256_cvtepi8_epi32(eight(p, part)); }
  static Ints unsigned_pairs(const std::byte* p, const std::byte* q, int part) {
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(eight(p, part), eight(q, part)));
  }
  static Ints signed_pairs(const std::byte* p, const std::byte* q, int part) {
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(eight(p, part), eight(q, part)));
  }

  static Floats no_floats() { return _mm256_setzero_ps(); }
  static Floats to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }
  static Floats halves(const std::byte* p, int part) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * part)));
  }
  static Floats half_powers_of_two(const std::byte* p, int part) {
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(eight(p, part)), 23);
    return times(_mm256_castsi256_ps(_mm256_max_epi32(bits, _mm256_set1_epi32(0x00400000))), _mm256_set1_ps(0.5f));
  }
  static Floats all_floats(const std::byte* p) { return _mm256_castsi256_ps(everywhere(p)); }
  static Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats plus_product(Floats sum, Floats a, Floats b) { return _mm256_fmadd_ps(a, b, sum); }
  static Floats minus_product(Floats sum, Floats a, Floats b) { return _mm256_fnmadd_ps(a, b, sum); }
  static void store_floats(float* p, Floats a) { _mm256_storeu_ps(p, a); }
  // The second of each pair first, as vdpbf16ps does.
  static Floats bf16_products(Floats sum, Bytes w, const std::byte* a) {
    const __m256i two = everywhere(a), upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    const auto second = [&](__m256i pair) { return _mm256_castsi256_ps(_mm256_and_si256(pair, upper)); };
    const auto first = [](__m256i pair) { return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)); };
    return plus_product(plus_product(sum, second(w), second(two)), first(w), first(two));
  }
};

}  // namespace

void packed_linear_avx2(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows, size_t tokens,
                       float* y, size_t y_stride) noexcept {
  PackedKernels<Avx2Packed>::packed_linear(w, first_strip, strips, rows, tokens, y, y_stride);
}

}  // namespace moiety::kernel
