// The packed kernels for processors with AVX-512; see avx512.cc.
#include <immintrin.h>

#define MOIETY_UNROLL _Pragma("GCC unroll 16")
#include "kernel/packed_tile.h"

namespace moiety::kernel {
namespace {

// All sixteen rows of a strip in one register.
struct Avx512Packed {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kRows = 16;
  static constexpr bool kManyRegisters = true;
  static constexpr bool kMovesSigned = false;

  static __m128i sixteen(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static Ints everywhere(const std::byte* p) {
    int value;
    __builtin_memcpy(&value, p, 4);
    return _mm512_set1_epi32(value);
  }

  // Once, into a register: compilers would rather load again for each use.
  static Bytes load(const std::byte* vector, int) {
    Bytes b = _mm512_loadu_si512(vector);
    asm("" : "+v"(b));
    return b;
  }
  static void store(std::byte* vector, int, Bytes b) { _mm512_storeu_si512(vector, b); }
  template <int kFrom, int kTo, int kMask>
  static Bytes bits(Bytes b) {
    if constexpr (kFrom > kTo) b = _mm512_srli_epi16(b, kFrom - kTo);
    if constexpr (kFrom < kTo) b = _mm512_slli_epi16(b, kTo - kFrom);
    return _mm512_and_si512(b, _mm512_set1_epi8(static_cast<char>(kMask << kTo)));
  }
  static Bytes either(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
  static Bytes minus_32(Bytes b) { return _mm512_sub_epi8(b, _mm512_set1_epi8(32)); }
  static Bytes look_up(const uint8_t* table, Bytes nibbles) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), nibbles);
  }

  static Ints no_ints() { return _mm512_setzero_si512(); }
  static Ints all_ints(const std::byte* p) { return everywhere(p); }
  template <bool kSigned>
  static Ints four_products(Ints sum, Bytes w, const std::byte* a) {
    return _mm512_dpbusd_epi32(sum, w, everywhere(a));
  }
  static Ints two_products(Ints sum, Ints pairs, const std::byte* a) { return _mm512_dpwssd_epi32(sum, pairs, everywhere(a)); }
  static Ints multiply(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static Ints plus(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints minus(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  template <int kPower>
  static Ints times_power(Ints a) { return _mm512_slli_epi32(a, kPower); }
  static Ints unsigned_bytes(const std::byte* p, int) { return _mm512_cvtepu8_epi32(sixteen(p)); }
  static Ints signed_bytes(const std::byte* p, int) { return _mm512_cvtepi8_epi32(sixteen(p)); }
  static __m256i interleaved(const std::byte* p, const std::byte* q) {
    return _mm256_set_m128i(_mm_unpackhi_epi8(sixteen(p), sixteen(q)), _mm_unpacklo_epi8(sixteen(p), sixteen(q)));
  }
  static Ints unsigned_pairs(const std::byte* p, const std::byte* q, int) { return _mm512_cvtepu8_epi16(interleaved(p, q)); }
  static Ints signed_pairs(const std::byte* p, const std::byte* q, int) { return _mm512_cvtepi8_epi16(interleaved(p, q)); }

  static Floats no_floats() { return _mm512_setzero_ps(); }
  static Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
  static Floats halves(const std::byte* p, int) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats half_powers_of_two(const std::byte* p, int) {
    const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu8_epi32(sixteen(p)), 23);
    return times(_mm512_castsi512_ps(_mm512_max_epi32(bits, _mm512_set1_epi32(0x00400000))), _mm512_set1_ps(0.5f));
  }
  static Floats all_floats(const std::byte* p) { return _mm512_castsi512_ps(everywhere(p)); }
  static Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats plus_product(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(a, b, sum); }
  static Floats minus_product(Floats sum, Floats a, Floats b) { return _mm512_fnmadd_ps(a, b, sum); }
  static void store_floats(float* p, Floats a) { _mm512_storeu_ps(p, a); }
  static Floats bf16_products(Floats sum, Bytes w, const std::byte* a) {
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)everywhere(a));
  }
};

}  // namespace

void packed_linear_avx512(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows, size_t tokens,
                       float* y, size_t y_stride) noexcept {
  PackedKernels<Avx512Packed>::packed_linear(w, first_strip, strips, rows, tokens, y, y_stride);
}

}  // namespace moiety::kernel
