// The products of gemm.h, written once over an instruction set's vectors. Included by one file an instruction set; everything is
// in an unnamed namespace for the same reason as in tile.h.
//
// `Isa` gives, for sixteen lanes of 4 bytes:
//   Words    load(p), store(p, w), stream(p, w) past the caches, which fence() ends; pairs(x), of 32 numbers that follow each other; interleaved(x, y), of sixteen and sixteen,
//            rounded to bf16 or in it already; turn(w[16]), rows for columns
//   Sums     none(), load_sums(p), store_sums(p, s), plus(a, b), f32_product(sum, w, a), bf16_product(sum, w, a), where a
//            points to what all lanes are multiplied with
//   kStrips, kRows   of a tile, whose sums stay in registers
#pragma once

#include <algorithm>
#include <cstring>

#include "kernel/gemm.h"

// Goes before loops over registers, which become memory unless they are unrolled; files whose vectors are registers define it.
#ifndef MOIETY_UNROLL
#define MOIETY_UNROLL
#endif

namespace moiety::kernel {
namespace {

template <class Isa>
struct Gemm {
  using Words = typename Isa::Words;
  using Sums = typename Isa::Sums;
  static constexpr size_t kLanes = kGemmLanes, kWord = 4, kVector = kWord * kLanes;

  // Asks for the lines of what is needed next, so many after every few steps of a tile: all at once they would wait for each
  // other, and the arithmetic for them.
  class Fetch {
   public:
    static constexpr size_t kEvery = 8;  // steps

    Fetch(const GemmAhead& ahead, size_t rows, size_t cols, size_t steps)
        : row_(ahead.data), rows_(ahead.bytes > 0 ? ahead.rows : 0), bytes_(ahead.bytes), stride_(ahead.stride) {
      const size_t times = std::max<size_t>(1, rows / Isa::kRows * ((cols + kTileCols - 1) / kTileCols) * (steps / kEvery));
      lines_ = (rows_ * ((bytes_ + kLine - 1) / kLine) + times - 1) / times;
    }
    void some() {
      for (size_t i = 0; i < lines_ && rows_ > 0; ++i) {
        __builtin_prefetch(row_ + at_, 0, 2);
        if ((at_ += kLine) < bytes_) continue;
        at_ = 0;
        row_ += stride_;
        --rows_;
      }
    }

   private:
    static constexpr size_t kLine = 64, kTileCols = kLanes * Isa::kStrips;

    const std::byte* row_;
    size_t rows_, bytes_, stride_, at_ = 0, lines_;
  };

  template <GemmType kType, int kStrips, int kRows>
  static void tile(const std::byte* const* a, const GemmStrips& strips, size_t steps, float* c, size_t c_stride, size_t cols,
                   bool add, Fetch& fetch, size_t rows_after) {
    Sums sums[kRows][kStrips];
    MOIETY_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) sums[r][s] = Isa::none();
    }
    const std::byte* rows[kRows];
    MOIETY_UNROLL
    for (int r = 0; r < kRows; ++r) rows[r] = a[r];
    // What the sums go to is often in no cache yet: it comes while they are made.
    for (int r = 0; r < kRows; ++r) {
      for (int s = 0; s < kStrips; ++s) __builtin_prefetch(c + static_cast<size_t>(r) * c_stride + kLanes * static_cast<size_t>(s), 1);
    }
    // So do the rows of the next tile, which may lie anywhere.
    const std::byte* next[kRows];
    for (size_t r = 0; r < kRows; ++r) next[r] = a[r < rows_after ? kRows + r : r];
    for (size_t k = 0; k < steps; fetch.some()) {
      if (k % kLanes == 0) {
        MOIETY_UNROLL
        for (int r = 0; r < kRows; ++r) __builtin_prefetch(next[r] + kWord * k, 0, 2);
      }
      for (const size_t end = std::min(steps, k + Fetch::kEvery); k < end; ++k) {
        Words w[kStrips];
        MOIETY_UNROLL
        for (int s = 0; s < kStrips; ++s) w[s] = Isa::load(strips.data + static_cast<size_t>(s) * strips.stride + kVector * k);
        MOIETY_UNROLL
        for (int r = 0; r < kRows; ++r) {
          MOIETY_UNROLL
          for (int s = 0; s < kStrips; ++s) {
            if constexpr (kType == GemmType::F32) {
              sums[r][s] = Isa::f32_product(sums[r][s], w[s], rows[r] + kWord * k);
            } else {
              sums[r][s] = Isa::bf16_product(sums[r][s], w[s], rows[r] + kWord * k);
            }
          }
        }
      }
    }
    MOIETY_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MOIETY_UNROLL
      for (int s = 0; s < kStrips; ++s) {
        put(sums[r][s], c + static_cast<size_t>(r) * c_stride + kLanes * static_cast<size_t>(s),
            std::min(kLanes, cols - kLanes * static_cast<size_t>(s)), add);
      }
    }
  }
  static void put(const Sums& sums, float* c, size_t cols, bool add) {
    if (cols == kLanes) {
      Isa::store_sums(c, add ? Isa::plus(Isa::load_sums(c), sums) : sums);
      return;
    }
    float some[kLanes];
    Isa::store_sums(some, sums);
    for (size_t n = 0; n < cols; ++n) c[n] = add ? c[n] + some[n] : some[n];
  }

  template <GemmType kType, int kStrips>
  static void all_rows(const std::byte* const* a, size_t rows, const GemmStrips& strips, size_t steps, float* c, size_t c_stride,
                       size_t cols, bool add, Fetch& fetch) {
    size_t r = 0;
    const auto take = [&]<int kRows>() {
      for (; r + kRows <= rows; r += kRows) {
        tile<kType, kStrips, kRows>(a + r, strips, steps, c + r * c_stride, c_stride, cols, add, fetch, rows - r - kRows);
      }
    };
    take.template operator()<Isa::kRows>();
    if constexpr (Isa::kRows > 3) take.template operator()<3>();
    take.template operator()<1>();
  }

  template <GemmType kType>
  static void all_strips(const std::byte* const* a, size_t rows, const GemmStrips& strips, size_t cols, size_t steps, float* c,
                         size_t c_stride, bool add, const GemmAhead& ahead) {
    Fetch fetch(ahead, rows, cols, steps);
    size_t n = 0;
    const auto take = [&]<int kStrips>() {
      constexpr size_t kLeast = kLanes * (kStrips - 1) + 1;  // columns that need so many strips
      for (; n + kLeast <= cols; n += kLanes * kStrips) {
        all_rows<kType, kStrips>(a, rows, {strips.data + n / kLanes * strips.stride, strips.stride}, steps, c + n, c_stride,
                                 std::min(kLanes * kStrips, cols - n), add, fetch);
      }
    };
    take.template operator()<Isa::kStrips>();
    if constexpr (Isa::kStrips > 2) take.template operator()<2>();
    if constexpr (Isa::kStrips > 1) take.template operator()<1>();
  }

  static void multiply(GemmType type, const std::byte* const* a, size_t rows, GemmStrips strips, size_t cols, size_t steps, float* c,
                       size_t c_stride, bool add, const GemmAhead& ahead) noexcept {
    if (type == GemmType::F32) {
      all_strips<GemmType::F32>(a, rows, strips, cols, steps, c, c_stride, add, ahead);
    } else {
      all_strips<GemmType::Bf16>(a, rows, strips, cols, steps, c, c_stride, add, ahead);
    }
  }

  // Laying out. Words of 4 bytes: a number of f32, or a pair of bf16.

  // Sixteen words from depth `at` of a row on; zeros after `depth`.
  static Words words_of_row(GemmType type, const float* x, size_t at, size_t depth) {
    const size_t wanted = type == GemmType::F32 ? kLanes : 2 * kLanes;
    float some[2 * kLanes];
    const float* from = x + at;
    if (at + wanted > depth) {
      std::fill(some, some + wanted, 0.0f);
      if (at < depth) std::copy(x + at, x + depth, some);
      from = some;
    }
    return type == GemmType::F32 ? Isa::load(reinterpret_cast<const std::byte*>(from)) : Isa::pairs(from);
  }
  // Sixteen words of step `step` from column `first` on; zeros after column `end`. X is float, or uint16_t: bf16 already.
  template <class X>
  static Words words_of_columns(GemmType type, const X* const* x_K, size_t step, size_t depth, size_t first, size_t end) {
    const size_t k = type == GemmType::F32 ? step : 2 * step;
    X some[2][kLanes];
    const auto row = [&](size_t i) -> const X* {
      if (k + i < depth && first + kLanes <= end) return x_K[k + i] + first;
      std::fill(some[i], some[i] + kLanes, X{0});
      if (k + i < depth) std::copy(x_K[k + i] + first, x_K[k + i] + end, some[i]);
      return some[i];
    };
    const X* x = row(0);
    return type == GemmType::F32 ? Isa::load(reinterpret_cast<const std::byte*>(x)) : Isa::interleaved(x, row(1));
  }

  static void round_row(const float* x, size_t depth, std::byte* row) noexcept {
    for (size_t k = 0; k < depth; k += 2 * kLanes) {
      put_words(words_of_row(GemmType::Bf16, x, k, depth), row + 2 * k, gemm_row_bytes(GemmType::Bf16, depth - k));
    }
  }
  static void put_words(const Words& words, std::byte* out, size_t bytes) {
    if (bytes >= kVector) return Isa::store(out, words);
    std::byte some[kVector];
    Isa::store(some, words);
    std::memcpy(out, some, bytes);
  }

  template <class X>
  static void turn(GemmType type, const X* const* x_K, size_t depth, size_t first, size_t count, std::byte* rows, size_t stride) {
    const size_t steps = gemm_steps(type, depth);
    for (size_t step = 0; step < steps; step += kLanes) {
      for (size_t column = 0; column < count; column += kLanes) {
        Words w[kLanes];
        for (size_t i = 0; i < kLanes; ++i) {
          w[i] = words_of_columns(type, x_K, std::min(step + i, steps), depth, first + column, first + count);
        }
        Isa::turn(w);
        for (size_t i = 0; i < std::min(kLanes, count - column); ++i) {
          put_words(w[i], rows + (column + i) * stride + kWord * step, kWord * std::min(kLanes, steps - step));
        }
      }
    }
  }

  static void put_strip(GemmTo to, std::byte* strip, const Words& words) {
    if (to == GemmTo::Cache) Isa::store(strip, words);
    else Isa::stream(strip, words);
  }

  template <class X>
  static void lay_out_strips(GemmType type, const X* const* x_K, size_t depth, size_t first, size_t cols, std::byte* strips,
                             size_t stride, GemmTo to) {
    const size_t steps = gemm_steps(type, depth);
    for (size_t step = 0; step < steps; ++step) {
      for (size_t column = 0; column < cols; column += kLanes) {
        put_strip(to, strips + column / kLanes * stride + kVector * step,
                  words_of_columns(type, x_K, step, depth, first + column, first + cols));
      }
    }
    if (to == GemmTo::Memory) Isa::fence();
  }

  static void strips_of_rows(GemmType type, const float* const* x_N, size_t cols, size_t depth, std::byte* strips, GemmTo to) noexcept {
    const size_t steps = gemm_steps(type, depth), per_word = type == GemmType::F32 ? 1 : 2;
    for (size_t column = 0; column < cols; column += kLanes) {
      std::byte* strip = strips + column / kLanes * kVector * steps;
      for (size_t step = 0; step < steps; step += kLanes) {
        Words w[kLanes];
        for (size_t i = 0; i < kLanes; ++i) {
          const bool is_there = column + i < cols;
          w[i] = words_of_row(type, x_N[is_there ? column + i : column], is_there ? per_word * step : depth, depth);
        }
        Isa::turn(w);
        for (size_t i = 0; i < std::min(kLanes, steps - step); ++i) put_strip(to, strip + kVector * (step + i), w[i]);
      }
    }
    if (to == GemmTo::Memory) Isa::fence();
  }

  static void turn_columns(GemmType type, const float* const* x_K, size_t depth, size_t first, size_t count, std::byte* rows,
                           size_t stride) noexcept {
    turn(type, x_K, depth, first, count, rows, stride);
  }
  static void turn_rounded_columns(const uint16_t* const* x_K, size_t depth, size_t first, size_t count, std::byte* rows,
                                   size_t stride) noexcept {
    turn(GemmType::Bf16, x_K, depth, first, count, rows, stride);
  }
  static void strips_of_columns(GemmType type, const float* const* x_K, size_t depth, size_t first, size_t cols, std::byte* strips,
                                size_t stride, GemmTo to) noexcept {
    lay_out_strips(type, x_K, depth, first, cols, strips, stride, to);
  }
  static void strips_of_rounded_columns(const uint16_t* const* x_K, size_t depth, size_t first, size_t cols,
                                        std::byte* strips, size_t stride) noexcept {
    lay_out_strips(GemmType::Bf16, x_K, depth, first, cols, strips, stride, GemmTo::Cache);
  }

  static constexpr GemmKernels kTable{.multiply = multiply,
                                      .round_row = round_row,
                                      .turn_columns = turn_columns,
                                      .strips_of_columns = strips_of_columns,
                                      .turn_rounded_columns = turn_rounded_columns,
                                      .strips_of_rounded_columns = strips_of_rounded_columns,
                                      .strips_of_rows = strips_of_rows};
};

}  // namespace
}  // namespace moiety::kernel
