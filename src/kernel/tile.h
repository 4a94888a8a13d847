// The matrix product as tiles of a few tokens by a few rows, written once over a vector type. Included by one file an
// instruction set, each compiled with its own flags; everything is in an unnamed namespace so that no function compiled
// for one processor is linked into another's path.
//
// `Isa` gives: kWidth floats a vector; Vec; zero(), load(p), load_first(p, n), fma(a, b, c), sum(v), store; and for each
// weight type a loader struct with row(w, r), which makes what the loader wants to know of a row, vec(row, k) and
// vec_first(row, k, n).
#pragma once

#include "kernel/kernels.h"

namespace moiety::kernel {
namespace {

// The row of a loader that needs to know nothing but where its bytes are.
struct ByteRow {
  using Row = const std::byte*;
  static Row row(const WeightView& w, size_t r) { return w.row(r); }
};

// Tokens x Rows dot products at once. Each accumulates along k in steps of kWidth, so that the tile's size never shows.
template <class Isa, class Type, int Tokens, int Rows>
inline void tile(const float* const* x_T, const typename Type::Row* rows, size_t cols, float* y, size_t y_stride) {
  typename Isa::Vec sums[Tokens][Rows];
  for (int t = 0; t < Tokens; ++t) {
    for (int r = 0; r < Rows; ++r) sums[t][r] = Isa::zero();
  }
  size_t k = 0;
  for (; k + Isa::kWidth <= cols; k += Isa::kWidth) {
    typename Isa::Vec w[Rows];
    for (int r = 0; r < Rows; ++r) w[r] = Type::vec(rows[r], k);
    for (int t = 0; t < Tokens; ++t) {
      const typename Isa::Vec a = Isa::load(x_T[t] + k);
      for (int r = 0; r < Rows; ++r) sums[t][r] = Isa::fma(a, w[r], sums[t][r]);
    }
  }
  if (k < cols) {
    const size_t rest = cols - k;
    for (int r = 0; r < Rows; ++r) {
      const typename Isa::Vec w = Type::vec_first(rows[r], k, rest);
      for (int t = 0; t < Tokens; ++t) {
        sums[t][r] = Isa::fma(Isa::load_first(x_T[t] + k, rest), w, sums[t][r]);
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) {
    for (int r = 0; r < Rows; ++r) y[t * y_stride + r] = Isa::sum(sums[t][r]);
  }
}

// All tokens against Rows rows of w.
template <class Isa, class Type, int MostTokens, int Rows>
inline void strip(const float* const* x_T, size_t tokens, const WeightView& w, size_t first_row, float* y,
                  size_t y_stride) {
  typename Type::Row rows[Rows];
  for (int r = 0; r < Rows; ++r) rows[r] = Type::row(w, first_row + r);
  size_t t = 0;
  for (; t + MostTokens <= tokens; t += MostTokens) {
    tile<Isa, Type, MostTokens, Rows>(x_T + t, rows, w.cols, y + t * y_stride, y_stride);
  }
  for (; t + 2 <= tokens; t += 2) {
    tile<Isa, Type, 2, Rows>(x_T + t, rows, w.cols, y + t * y_stride, y_stride);
  }
  for (; t < tokens; ++t) {
    tile<Isa, Type, 1, Rows>(x_T + t, rows, w.cols, y + t * y_stride, y_stride);
  }
}

template <class Isa, class Type>
void linear_of(const float* const* x_T, size_t tokens, const WeightView& w, size_t first_row, size_t rows, float* y,
               size_t y_stride) {
  size_t r = 0;
  for (; r + Isa::kTileRows <= rows; r += Isa::kTileRows) {
    strip<Isa, Type, Isa::kTileTokens, Isa::kTileRows>(x_T, tokens, w, first_row + r, y + r, y_stride);
  }
  for (; r < rows; ++r) {
    strip<Isa, Type, Isa::kTileTokens, 1>(x_T, tokens, w, first_row + r, y + r, y_stride);
  }
}

template <class Isa>
void linear(const float* const* x_T, size_t tokens, const WeightView& w, size_t first_row, size_t rows, float* y,
            size_t y_stride) noexcept {
  const auto run = [&]<class Type>() {
    linear_of<Isa, Type>(x_T, tokens, w, first_row, rows, y, y_stride);
  };
  switch (w.type) {
    case spec::ElementType::F32:
      return run.template operator()<typename Isa::F32>();
    case spec::ElementType::F16:
      return run.template operator()<typename Isa::F16>();
    case spec::ElementType::BF16:
      return run.template operator()<typename Isa::BF16>();
    case spec::ElementType::Q8_0:
      return run.template operator()<typename Isa::Q8_0>();
    case spec::ElementType::Q4_0:
      return run.template operator()<typename Isa::Q4_0>();
    case spec::ElementType::Q4_1:
      return run.template operator()<typename Isa::Q4_1>();
    case spec::ElementType::Q5_0:
      return run.template operator()<typename Isa::Q5_0>();
    case spec::ElementType::Q5_1:
      return run.template operator()<typename Isa::Q5_1>();
    case spec::ElementType::Q2_K:
      return run.template operator()<typename Isa::Q2_K>();
    case spec::ElementType::Q3_K:
      return run.template operator()<typename Isa::Q3_K>();
    case spec::ElementType::Q4_K:
      return run.template operator()<typename Isa::Q4_K>();
    case spec::ElementType::Q5_K:
      return run.template operator()<typename Isa::Q5_K>();
    case spec::ElementType::Q6_K:
      return run.template operator()<typename Isa::Q6_K>();
    case spec::ElementType::IQ4_NL:
      return run.template operator()<typename Isa::IQ4_NL>();
    case spec::ElementType::IQ4_XS:
      return run.template operator()<typename Isa::IQ4_XS>();
    case spec::ElementType::MXFP4:
      return run.template operator()<typename Isa::MXFP4>();
    case spec::ElementType::MXFP4_PLANES:
      return run.template operator()<typename Isa::MXFP4_PLANES>();
    case spec::ElementType::F8_E4M3:
      return run.template operator()<typename Isa::F8_E4M3>();
    default:
      return;  // ModelFile lets only weight types through
  }
}

template <class Isa>
void add_scaled(float factor, const float* x, float* y, size_t n) noexcept {
  const typename Isa::Vec f = Isa::all(factor);
  size_t k = 0;
  for (; k + Isa::kWidth <= n; k += Isa::kWidth) Isa::store(y + k, Isa::fma(f, Isa::load(x + k), Isa::load(y + k)));
  for (; k < n; ++k) y[k] = __builtin_fmaf(factor, x[k], y[k]);
}

}  // namespace
}  // namespace moiety::kernel
