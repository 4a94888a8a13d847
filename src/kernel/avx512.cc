// For processors with AVX-512 F, BW, DQ, VL, VNNI and BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later). Compiled with their flags; see kernel/build of the layer in CMake.
#include <immintrin.h>

#include "kernel/attend_avx512.h"
#include "kernel/activate.h"
#include "kernel/blocks.h"
#include "kernel/packed_tile.h"
#include "kernel/peak_loops.h"

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

  static Bytes load(const std::byte* vector, int) { return _mm512_loadu_si512(vector); }
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

const Kernels& avx512_kernels() {
  static const Kernels kernels{.name = "avx512",
                               .linear = linear<Avx512>,
                               .dot = dot<Avx512>,
                               .add_scaled = add_scaled<Avx512>,
                               .attend = attend<AttendAvx512>,
                               .fold = fold<AttendAvx512>,
                               .activate = activate,
                               .round_activations = round_activations,
                               .packed_linear = PackedKernels<Avx512Packed>::packed_linear};
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
