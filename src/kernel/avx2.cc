// For processors with AVX2, FMA and F16C.
#include <immintrin.h>

#include "kernel/attend_avx2.h"
#include "kernel/activate.h"
#include "kernel/blocks.h"
#include "kernel/packed_tile.h"
#include "kernel/peak_loops.h"

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

const Kernels& avx2_kernels() {
  static const Kernels kernels{.name = "avx2",
                               .linear = linear<Avx2>,
                               .dot = dot<Avx2>,
                               .add_scaled = add_scaled<Avx2>,
                               .attend = attend<AttendAvx2>,
                               .fold = fold<AttendAvx2>,
                               .activate = activate,
                               .round_activations = round_activations,
                               .packed_linear = PackedKernels<Avx2Packed>::packed_linear};
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
