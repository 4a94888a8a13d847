// The product of packed weights and rounded activations, written once over an instruction set's vectors. Included by
// one file an instruction set, like tile.h; everything is in an unnamed namespace for the same reason.
//
// Sums of products of quanta are integers and so exact in any order; the few float steps, the same in every instruction
// set, go from block to block. So all instruction sets give the same bits, whatever was computed together.
//
// `Isa` gives kManyRegisters (32 instead of 16), and for kRows rows of a strip (all sixteen, or each half of them: `part` counts
// halves):
//   Bytes    load(vector, part); bits<from, to, mask>(b), the bits from `from` on, moved to `to`; either(a, b); look_up(nibbles,
//            table); a constant all_bytes(x)
//   Ints     four_products<kSigned>(sum, bytes, a): + the products of four unsigned bytes a lane and four signed activations at a,
//            where bytes of kSigned are 128 above what they stand for; kMovesSigned says that these 128 are taken away already;
//            two_products(sum, pairs, a) of int16; no_ints(), all_ints(a), multiply, plus, minus, times_power<n>
//   Ints     of sixteen bytes a row each: unsigned_bytes(p, part), signed_bytes, and unsigned_pairs(p, q, part), signed_pairs
//   Floats   no_floats(), to_floats(ints), halves(p, part), half_powers_of_two(p, part), all_floats(x), times, plus_product,
//            minus_product, store; bf16_products(sum, pairs, a)
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernel/packed.h"

// Goes before loops over registers, which become memory unless they are unrolled; files whose vectors are registers define it.
#ifndef MOIETY_UNROLL
#define MOIETY_UNROLL
#endif

namespace moiety::kernel {
namespace {

// What nibbles stand for, 128 above (IQ4_NL and IQ4_XS) and 12 above twice the number (MXFP4).
alignas(16) constexpr uint8_t kIq4Table[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
// What the upper nibbles of Q8_0's bytes stand for, 128 above: the middle of what they leave open, rounded towards zero, so that
// what is lost has no sign in the mean.
alignas(16) constexpr uint8_t kUpperTable[16] = {8, 24, 40, 56, 72, 88, 104, 120, 135, 151, 167, 183, 199, 215, 231, 247};
alignas(16) constexpr uint8_t kMxfp4Table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

template <class Isa>
struct PackedKernels {
  using ElementType = spec::ElementType;
  using Bytes = typename Isa::Bytes;
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  static constexpr int kParts = static_cast<int>(kStripRows) / Isa::kRows;

  // Eight groups of four columns, from the parts that a type keeps. Pointers are to the parts of these 32 columns.

  static void nibbles(const std::byte* from, int part, Bytes (&w)[8]) {
    MOIETY_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Bytes both = Isa::load(from + 64 * j, part);
      w[j] = Isa::template bits<0, 0, 15>(both);
      w[j + 4] = Isa::template bits<4, 0, 15>(both);
    }
  }
  template <int kTo>
  static void pairs(const std::byte* from, int part, Bytes (&w)[8]) {
    MOIETY_UNROLL
    for (int j = 0; j < 2; ++j) {
      const Bytes four = Isa::load(from + 64 * j, part);
      w[4 * j] = Isa::template bits<0, kTo, 3>(four);
      w[4 * j + 1] = Isa::template bits<2, kTo, 3>(four);
      w[4 * j + 2] = Isa::template bits<4, kTo, 3>(four);
      w[4 * j + 3] = Isa::template bits<6, kTo, 3>(four);
    }
  }
  template <int kTo>
  static void or_pairs(const std::byte* from, int part, Bytes (&w)[8]) {
    Bytes upper[8];
    pairs<kTo>(from, part, upper);
    MOIETY_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = Isa::either(w[j], upper[j]);
  }
  template <int kTo>
  static void or_bits(const std::byte* from, int part, Bytes (&w)[8]) {
    const Bytes eight = Isa::load(from, part);
    w[0] = Isa::either(w[0], Isa::template bits<0, kTo, 1>(eight));
    w[1] = Isa::either(w[1], Isa::template bits<1, kTo, 1>(eight));
    w[2] = Isa::either(w[2], Isa::template bits<2, kTo, 1>(eight));
    w[3] = Isa::either(w[3], Isa::template bits<3, kTo, 1>(eight));
    w[4] = Isa::either(w[4], Isa::template bits<4, kTo, 1>(eight));
    w[5] = Isa::either(w[5], Isa::template bits<5, kTo, 1>(eight));
    w[6] = Isa::either(w[6], Isa::template bits<6, kTo, 1>(eight));
    w[7] = Isa::either(w[7], Isa::template bits<7, kTo, 1>(eight));
  }
  static void look_up(const uint8_t* table, Bytes (&w)[8]) {
    MOIETY_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = Isa::look_up(table, w[j]);
  }

  // What every type has: how its blocks lie.
  template <spec::ElementType kElement>
  struct Layout {
    static constexpr size_t kQuanta = packed_type(kElement)->quanta, kScales = packed_type(kElement)->scales;
    static constexpr size_t kInGroup = packed_type(kElement)->blocks_in_group();
  };

  // Types in blocks of 32: quanta; a scale; perhaps a minimum. kSigned: bytes are 128 above what they stand for.

  struct HalfScale {
    static constexpr bool kSigned = false, kMinimum = false;
    static Floats scale(const std::byte* scales, int part) { return Isa::halves(scales, part); }
  };
  struct HalfScaleAndMinimum : HalfScale {
    static constexpr bool kMinimum = true;
    static Floats minimum(const std::byte* scales, int part) { return Isa::halves(scales + 32, part); }
  };
  struct Q8_0 : HalfScale, Layout<ElementType::Q8_0> {
    static constexpr bool kSigned = true;
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) {
      MOIETY_UNROLL
      for (int j = 0; j < 8; ++j) w[j] = Isa::load(from + 64 * j, part);
    }
  };
  struct Q4_0 : HalfScale, Layout<ElementType::Q4_0> {
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) { nibbles(from, part, w); }
  };
  struct Q4_1 : HalfScaleAndMinimum, Layout<ElementType::Q4_1> {
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) { nibbles(from, part, w); }
  };
  struct Q5_0 : HalfScale, Layout<ElementType::Q5_0> {
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) {
      nibbles(from, part, w);
      or_bits<4>(from + 256, part, w);
    }
  };
  struct Q5_1 : HalfScaleAndMinimum, Layout<ElementType::Q5_1> {
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) { Q5_0::quanta(from, part, w); }
  };
  struct IQ4_NL : HalfScale, Layout<ElementType::IQ4_NL> {
    static constexpr bool kSigned = true;
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) {
      nibbles(from, part, w);
      look_up(kIq4Table, w);
    }
  };
  struct Q8_0_UPPER : HalfScale, Layout<ElementType::Q8_0_UPPER> {
    static constexpr bool kSigned = true;
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) {
      nibbles(from, part, w);
      look_up(kUpperTable, w);
    }
  };
  struct MXFP4 : HalfScale, Layout<ElementType::MXFP4> {
    static Floats scale(const std::byte* scales, int part) { return Isa::half_powers_of_two(scales, part); }
    static void quanta(const std::byte* from, int part, Bytes (&w)[8]) {
      nibbles(from, part, w);
      look_up(kMxfp4Table, w);
    }
  };

  struct BF16 : Layout<ElementType::BF16> {};

  // Types in blocks of 256: quanta of 32 columns; sub-blocks of kSub columns with integer scales; minima, integers too, or an
  // offset that all quanta have. `Scales` are those of one block, ready to be used.

  // Sixteen values of six bits a row, unpacked from where place_six_bits put them.
  struct SixBits {
    alignas(64) std::byte bytes[256];
    explicit SixBits(const std::byte* from) {
      for (int part = 0; part < kParts; ++part) {
        const Bytes a = Isa::load(from, part), b = Isa::load(from + 64, part), upper = Isa::load(from + 128, part);
        const auto put = [&](int i, Bytes low, Bytes high) { Isa::store(bytes + 64 * i, part, Isa::either(low, high)); };
        put(0, Isa::template bits<0, 0, 15>(a), Isa::template bits<0, 4, 3>(upper));
        put(1, Isa::template bits<4, 0, 15>(a), Isa::template bits<2, 4, 3>(upper));
        put(2, Isa::template bits<0, 0, 15>(b), Isa::template bits<4, 4, 3>(upper));
        put(3, Isa::template bits<4, 0, 15>(b), Isa::template bits<6, 4, 3>(upper));
      }
    }
    const std::byte* at(int i) const { return bytes + 16 * i; }
  };
  // A scale and a minimum for each 32 columns.
  struct ScalesOf45 {
    static constexpr int kSub = 32, kOffsetPower = 0;
    static constexpr bool kMinimum = true, kSigned = false;
    SixBits six;
    const std::byte* halves;
    explicit ScalesOf45(const std::byte* from) : six(from), halves(from + 192) {}
    Ints scale(int sub, int part) const { return Isa::unsigned_bytes(six.at(sub), part); }
    Ints minimum_pairs(int pair, int part) const {
      return Isa::unsigned_pairs(six.at(8 + 2 * pair), six.at(9 + 2 * pair), part);
    }
    Floats whole(int part) const { return Isa::halves(halves, part); }
    Floats whole_minimum(int part) const { return Isa::halves(halves + 32, part); }
  };
  struct Q4_K : ScalesOf45, Layout<ElementType::Q4_K> {
    using ScalesOf45::ScalesOf45;
    static void quanta(const std::byte* block, int sub, int part, Bytes (&w)[8]) { nibbles(block + 256 * sub, part, w); }
  };
  struct Q5_K : ScalesOf45, Layout<ElementType::Q5_K> {
    using ScalesOf45::ScalesOf45;
    static void quanta(const std::byte* block, int sub, int part, Bytes (&w)[8]) {
      nibbles(block + 256 * sub, part, w);
      or_bits<4>(block + 2048 + 64 * sub, part, w);
    }
  };
  struct Q6_K : Layout<ElementType::Q6_K> {
    static constexpr int kSub = 16, kOffsetPower = 5;
    static constexpr bool kMinimum = false, kSigned = false;
    const std::byte* from;
    explicit Q6_K(const std::byte* scales) : from(scales) {}
    Ints scale(int sub, int part) const { return Isa::signed_bytes(from + 16 * sub, part); }
    Ints minimum_pairs(int pair, int part) const { return Isa::signed_pairs(from + 32 * pair, from + 32 * pair + 16, part); }
    Floats whole(int part) const { return Isa::halves(from + 256, part); }
    static void quanta(const std::byte* block, int sub, int part, Bytes (&w)[8]) {
      nibbles(block + 256 * sub, part, w);
      or_pairs<4>(block + 2048 + 128 * sub, part, w);
    }
  };
  struct Q2_K : Layout<ElementType::Q2_K> {
    static constexpr int kSub = 16, kOffsetPower = 0;
    static constexpr bool kMinimum = true, kSigned = false;
    alignas(64) std::byte scales[256], minima[256];
    const std::byte* halves;
    explicit Q2_K(const std::byte* from) : halves(from + 256) {
      for (int i = 0; i < 4; ++i) {
        for (int part = 0; part < kParts; ++part) {
          const Bytes both = Isa::load(from + 64 * i, part);
          Isa::store(scales + 64 * i, part, Isa::template bits<0, 0, 15>(both));
          Isa::store(minima + 64 * i, part, Isa::template bits<4, 0, 15>(both));
        }
      }
    }
    Ints scale(int sub, int part) const { return Isa::unsigned_bytes(scales + 16 * sub, part); }
    Ints minimum_pairs(int pair, int part) const {
      return Isa::unsigned_pairs(minima + 32 * pair, minima + 32 * pair + 16, part);
    }
    Floats whole(int part) const { return Isa::halves(halves, part); }
    Floats whole_minimum(int part) const { return Isa::halves(halves + 32, part); }
    static void quanta(const std::byte* block, int sub, int part, Bytes (&w)[8]) { pairs<0>(block + 128 * sub, part, w); }
  };
  // Scales that are 32 above what they stand for.
  struct Q3_K : Layout<ElementType::Q3_K> {
    static constexpr int kSub = 16, kOffsetPower = 2;
    static constexpr bool kMinimum = false, kSigned = false;
    SixBits six;
    const std::byte* halves;
    explicit Q3_K(const std::byte* from) : six(from), halves(from + 192) {
      for (int i = 0; i < 4; ++i) {
        for (int part = 0; part < kParts; ++part) {
          Isa::store(six.bytes + 64 * i, part, Isa::minus_32(Isa::load(six.bytes + 64 * i, part)));
        }
      }
    }
    Ints scale(int sub, int part) const { return Isa::signed_bytes(six.at(sub), part); }
    Ints minimum_pairs(int pair, int part) const { return Isa::signed_pairs(six.at(2 * pair), six.at(2 * pair + 1), part); }
    Floats whole(int part) const { return Isa::halves(halves, part); }
    static void quanta(const std::byte* block, int sub, int part, Bytes (&w)[8]) {
      pairs<0>(block + 128 * sub, part, w);
      or_bits<2>(block + 1024 + 64 * sub, part, w);
    }
  };
  struct IQ4_XS : Layout<ElementType::IQ4_XS> {
    static constexpr int kSub = 32, kOffsetPower = Isa::kMovesSigned ? 0 : 7;
    static constexpr bool kMinimum = false, kSigned = true;
    alignas(64) std::byte scales[128];
    const std::byte* halves;
    explicit IQ4_XS(const std::byte* from) : halves(from + 96) {
      const auto six_bits = [&](size_t at, size_t nibble, int nibble_bit, int pair_bit) {
        for (size_t i = 0; i < 32; ++i) {
          const uint8_t low = static_cast<uint8_t>(from[nibble + i]) >> nibble_bit & 15;
          const uint8_t high = static_cast<uint8_t>(from[64 + i]) >> pair_bit & 3;
          scales[at + i] = static_cast<std::byte>(static_cast<uint8_t>((low | high << 4) - 32));
        }
      };
      six_bits(0, 0, 0, 0);
      six_bits(32, 32, 0, 2);
      six_bits(64, 0, 4, 4);
      six_bits(96, 32, 4, 6);
    }
    Ints scale(int sub, int part) const { return Isa::signed_bytes(scales + 16 * sub, part); }
    Ints minimum_pairs(int pair, int part) const {
      return Isa::signed_pairs(scales + 32 * pair, scales + 32 * pair + 16, part);
    }
    Floats whole(int part) const { return Isa::halves(halves, part); }
    static void quanta(const std::byte* block, int sub, int part, Bytes (&w)[8]) {
      nibbles(block + 256 * sub, part, w);
      look_up(kIq4Table, w);
    }
  };

  // kStrips strips that follow each other by kTokens rows of activations: a sum a lane, strip and token.

  template <int kStrips, int kTokens>
  struct Sums {
    Floats of[kStrips][kTokens];
  };

  // Asks for memory in step with the arithmetic, a little with every 32 columns: when few tokens are multiplied they wait for
  // it more than for anything else, and processors' own prefetching doesn't fill the wait.
  struct Fetch {
    const std::byte *at, *limit;
    size_t step;
    bool near;  // what is needed within microseconds; else it goes to the second-level cache
    void next() {
      for (limit += step; at < limit; at += 64) near ? __builtin_prefetch(at) : __builtin_prefetch(at, 0, 2);
    }
  };

  // Calls body(b, quanta, scales) for each block of a strip: where in the strip its quanta and its scales are.
  template <class Type, class Body>
  static void for_each_block(size_t blocks, const Body& body) {
    size_t group = 0;
    for (size_t first = 0; first < blocks; first += Type::kInGroup) {
      const size_t count = std::min(Type::kInGroup, blocks - first), scales = group + count * Type::kQuanta;
      for (size_t i = 0; i < count; ++i) body(first + i, group + i * Type::kQuanta, scales + i * Type::kScales);
      group = scales + count * Type::kScales;
    }
  }

  template <class Type, int kStrips, int kTokens>
  static void tile_of_32(const PackedView& matrix, const std::byte* const (&strips)[kStrips], const std::byte* const* rows,
                         int part, Fetch& fetch, Sums<kStrips, kTokens>& sums) {
    const ActivationRow at{matrix.cols};
    for_each_block<Type>(matrix.blocks(), [&](size_t b, size_t quanta_at, size_t scales_at) {
      constexpr bool kMoved = Type::kMinimum || (Type::kSigned && Isa::kMovesSigned);
      Ints products[kStrips][kTokens];
      MOIETY_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        MOIETY_UNROLL
        for (int s = 0; s < kStrips; ++s) {
          products[s][t] = kMoved ? Isa::no_ints() : Isa::all_ints(rows[t] + at.correction() + 4 * b);
        }
      }
      fetch.next();
      Bytes w[kStrips][8];
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) Type::quanta(strips[s] + quanta_at, part, w[s]);
      MOIETY_UNROLL
      for (int j = 0; j < 8; ++j) {
        MOIETY_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          MOIETY_UNROLL
          for (int s = 0; s < kStrips; ++s) {
            products[s][t] = Isa::template four_products<Type::kSigned>(products[s][t], w[s][j], rows[t] + 32 * b + 4 * j);
          }
        }
      }
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) {
        const std::byte* scales = strips[s] + scales_at;
        const Floats scale = Type::scale(scales, part);
        MOIETY_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          const Floats scaled = Isa::times(Isa::to_floats(products[s][t]), Isa::all_floats(rows[t] + at.scale() + 4 * b));
          Floats& sum = sums.of[s][t];
          sum = Isa::plus_product(sum, scaled, scale);
          if constexpr (Type::kMinimum) {
            sum = Isa::plus_product(sum, Isa::all_floats(rows[t] + at.scaled_sum() + 4 * b), Type::minimum(scales, part));
          }
        }
      }
    });
  }

  template <class Type, int kStrips, int kTokens>
  static void tile_of_256(const PackedView& matrix, const std::byte* const (&strips)[kStrips], const std::byte* const* rows,
                          int part, Fetch& fetch, Sums<kStrips, kTokens>& sums) {
    constexpr bool kLowers = Type::kMinimum || Type::kOffsetPower > 0;
    constexpr int kHalves = 32 / Type::kSub, kGroups = Type::kSub / 4;
    const ActivationRow at{matrix.cols};
    for_each_block<Type>(matrix.blocks(), [&](size_t b, size_t quanta_at, size_t scales_at) {
      const auto scales_of = [&](int s) { return Type(strips[s] + scales_at); };
      const auto scales = scales_of_strips(scales_of, std::make_integer_sequence<int, kStrips>());

      Ints products[kStrips][kTokens];
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) {
        MOIETY_UNROLL
        for (int t = 0; t < kTokens; ++t) products[s][t] = Isa::no_ints();
      }
      for (size_t sub = 0; sub < 8; ++sub) {
        fetch.next();
        Bytes w[kStrips][8];
        MOIETY_UNROLL
        for (int s = 0; s < kStrips; ++s) Type::quanta(strips[s] + quanta_at, sub, part, w[s]);
        MOIETY_UNROLL
        for (int half = 0; half < kHalves; ++half) {
          Ints some[kStrips][kTokens];
          MOIETY_UNROLL
          for (int s = 0; s < kStrips; ++s) {
            MOIETY_UNROLL
            for (int t = 0; t < kTokens; ++t) some[s][t] = Isa::no_ints();
          }
          MOIETY_UNROLL
          for (int j = 0; j < kGroups; ++j) {
            MOIETY_UNROLL
            for (int t = 0; t < kTokens; ++t) {
              const std::byte* a = rows[t] + 256 * b + 32 * sub + 16 * half + 4 * j;
              MOIETY_UNROLL
              for (int s = 0; s < kStrips; ++s) {
                some[s][t] = Isa::template four_products<Type::kSigned>(some[s][t], w[s][half * kGroups + j], a);
              }
            }
          }
          MOIETY_UNROLL
          for (int s = 0; s < kStrips; ++s) {
            const Ints scale = scales[s].scale(sub * kHalves + half, part);
            MOIETY_UNROLL
            for (int t = 0; t < kTokens; ++t) {
              products[s][t] = Isa::plus(products[s][t], Isa::multiply(some[s][t], scale));
            }
          }
        }
      }

      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) {
        Ints lowered[kTokens];  // sums of minima, or scales, times the sums of activations
        if constexpr (kLowers) {
          MOIETY_UNROLL
          for (int t = 0; t < kTokens; ++t) lowered[t] = Isa::no_ints();
          MOIETY_UNROLL
          for (int pair = 0; pair < 128 / Type::kSub; ++pair) {
            const Ints minima = scales[s].minimum_pairs(pair, part);
            const size_t sums_at = Type::kSub == 32 ? at.sums_of_32() + 16 * b : at.sums_of_16() + 32 * b;
            MOIETY_UNROLL
            for (int t = 0; t < kTokens; ++t) {
              lowered[t] = Isa::two_products(lowered[t], minima, rows[t] + sums_at + 4 * static_cast<size_t>(pair));
            }
          }
        }
        const Floats whole = scales[s].whole(part);
        MOIETY_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          const Floats scale = Isa::all_floats(rows[t] + at.scale() + 4 * b);
          Floats& sum = sums.of[s][t];
          if constexpr (kLowers && !Type::kMinimum) {
            products[s][t] = Isa::minus(products[s][t], Isa::template times_power<Type::kOffsetPower>(lowered[t]));
          }
          sum = Isa::plus_product(sum, Isa::times(Isa::to_floats(products[s][t]), scale), whole);
          if constexpr (Type::kMinimum) {
            sum = Isa::minus_product(sum, Isa::times(Isa::to_floats(lowered[t]), scale), scales[s].whole_minimum(part));
          }
        }
      }
    });
  }
  template <class ScalesOf, int... kStrip>
  static auto scales_of_strips(const ScalesOf& scales_of, std::integer_sequence<int, kStrip...>) {
    return std::array{scales_of(kStrip)...};
  }

  template <int kStrips, int kTokens>
  static void tile_of_bf16(const PackedView& matrix, const std::byte* const (&strips)[kStrips], const std::byte* const* rows,
                           int part, Fetch& fetch, Sums<kStrips, kTokens>& sums) {
    for (size_t k = 0; k < 16 * matrix.blocks(); ++k) {
      if (k % 16 == 0) fetch.next();
      Bytes w[kStrips];
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) w[s] = Isa::load(strips[s] + 64 * k, part);
      MOIETY_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        MOIETY_UNROLL
        for (int s = 0; s < kStrips; ++s) sums.of[s][t] = Isa::bf16_products(sums.of[s][t], w[s], rows[t] + 4 * k);
      }
    }
  }

  template <class Type, int kStrips, int kTokens>
  static void tile(const PackedView& w, size_t first, const std::byte* const* rows, Fetch& fetch, float* y, size_t y_stride) {
    const std::byte* strips[kStrips];
    for (int s = 0; s < kStrips; ++s) strips[s] = w.strip(first + static_cast<size_t>(s));
    for (int part = 0; part < kParts; ++part) {
      Sums<kStrips, kTokens> sums;
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) {
        MOIETY_UNROLL
        for (int t = 0; t < kTokens; ++t) sums.of[s][t] = Isa::no_floats();
      }
      if constexpr (std::is_same_v<Type, BF16>) {
        tile_of_bf16<kStrips, kTokens>(w, strips, rows, part, fetch, sums);
      } else if constexpr (requires { Type::kSub; }) {
        tile_of_256<Type, kStrips, kTokens>(w, strips, rows, part, fetch, sums);
      } else {
        tile_of_32<Type, kStrips, kTokens>(w, strips, rows, part, fetch, sums);
      }
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) {
        const size_t row = static_cast<size_t>(s) * kStripRows + static_cast<size_t>(part) * Isa::kRows;
        const size_t left = w.rows - std::min(w.rows, first * kStripRows + row);
        MOIETY_UNROLL
        for (int t = 0; t < kTokens; ++t) store(sums.of[s][t], left, y + static_cast<size_t>(t) * y_stride + row);
      }
    }
  }
  // As many as there are rows left in the matrix.
  static void store(const Floats& sums, size_t left, float* y) {
    if (left >= Isa::kRows) return Isa::store_floats(y, sums);
    float some[Isa::kRows];
    Isa::store_floats(some, sums);
    std::memcpy(y, some, left * sizeof(float));
  }

  // All tokens, in tiles of kMost and then fewer.
  template <class Type, int kStrips, int kMost>
  static void tiles(const PackedView& w, size_t first, const std::byte* const* rows, size_t tokens, float* y,
                    size_t y_stride) {
    const std::byte *const here = w.strip(first), *const next = w.strip(first + kStrips);
    const size_t bytes = kStrips * w.strip_bytes(), steps = kParts * ((w.cols + 31) / 32);
    size_t t = 0;
    const auto take = [&]<int kTokens>() {
      for (; t + kTokens <= tokens; t += kTokens) {
        // A strip that is gone through once, a few kilobytes ahead; one that several tiles share, a part of the next with each.
        constexpr size_t kAhead = 6144;
        const bool once = kStrips == 1 && kParts == 1 && kTokens == tokens;
        const std::byte* from = once ? here + kAhead : next + bytes * t / tokens;
        Fetch fetch{from, from, (bytes * kTokens / tokens + steps - 1) / steps, once};
        tile<Type, kStrips, kTokens>(w, first, rows + t, fetch, y + t * y_stride, y_stride);
      }
    };
    take.template operator()<kMost>();
    if constexpr (kMost > 4) take.template operator()<4>();
    if constexpr (std::is_same_v<Type, BF16>) take.template operator()<3>();  // its sums wait for themselves, best side by side
    if constexpr (kMost > 2) take.template operator()<2>();
    take.template operator()<1>();
  }

  // Several strips share what is loaded of many activations; of few, or of blocks of 256, which need the registers for more
  // tokens instead, one strip does, and is one stream from memory.
  template <class Type>
  static void strips_of(const PackedView& w, size_t first, size_t count, const std::byte* const* rows, size_t tokens,
                        float* y, size_t y_stride) {
    constexpr bool kBlocksOf256 = requires { Type::kSub; };
    size_t s = 0;
    const auto take = [&]<int kStrips, int kMost>() {
      for (; s + kStrips <= count; s += kStrips) {
        tiles<Type, kStrips, kMost>(w, first + s, rows, tokens, y + s * kStripRows, y_stride);
      }
    };
    if constexpr (Isa::kManyRegisters && std::is_same_v<Type, BF16>) {
      if (tokens > 8) take.template operator()<4, 6>();
    }
    if constexpr (Isa::kManyRegisters && !kBlocksOf256) {
      if (tokens > 4) take.template operator()<2, 6>();
    }
    constexpr int kMany = std::is_same_v<Type, Q6_K> ? 6 : 8;  // what Q6_K unpacks leaves no registers for more
    take.template operator()<1, Isa::kManyRegisters && kBlocksOf256 ? kMany : 4>();
  }

  static void packed_linear(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows,
                            size_t tokens, float* y, size_t y_stride) noexcept {
    const auto run = [&]<class Type>() { strips_of<Type>(w, first_strip, strips, rows, tokens, y, y_stride); };
    switch (w.type->type) {
      case ElementType::BF16:
        return run.template operator()<BF16>();
      case ElementType::Q8_0:
        return run.template operator()<Q8_0>();
      case ElementType::Q4_0:
        return run.template operator()<Q4_0>();
      case ElementType::Q4_1:
        return run.template operator()<Q4_1>();
      case ElementType::Q5_0:
        return run.template operator()<Q5_0>();
      case ElementType::Q5_1:
        return run.template operator()<Q5_1>();
      case ElementType::IQ4_NL:
        return run.template operator()<IQ4_NL>();
      case ElementType::MXFP4:
      case ElementType::MXFP4_PLANES:
        return run.template operator()<MXFP4>();
      case ElementType::Q8_0_UPPER:
        return run.template operator()<Q8_0_UPPER>();
      case ElementType::Q2_K:
        return run.template operator()<Q2_K>();
      case ElementType::Q3_K:
        return run.template operator()<Q3_K>();
      case ElementType::Q4_K:
        return run.template operator()<Q4_K>();
      case ElementType::Q5_K:
        return run.template operator()<Q5_K>();
      case ElementType::Q6_K:
        return run.template operator()<Q6_K>();
      case ElementType::IQ4_XS:
        return run.template operator()<IQ4_XS>();
      default:
        return;  // packed_type() knows no others
    }
  }
};

}  // namespace
}  // namespace moiety::kernel
