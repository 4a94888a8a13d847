#include "kernel/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/matrix.h"
#include "base/random.h"
#include "kernel/kernels.h"

namespace moiety::kernel {
namespace {

Matrix<float> random_matrix(Random& random, size_t rows, size_t cols) {
  Matrix<float> x(rows, cols);
  for (size_t r = 0; r < rows; ++r) {
    for (float& value : x.row(r)) value = static_cast<float>(random.normal());
  }
  return x;
}

Matrix<float> transposed(const Matrix<float>& x) {
  Matrix<float> y(x.cols(), x.rows());
  for (size_t r = 0; r < x.rows(); ++r) {
    for (size_t c = 0; c < x.cols(); ++c) y.row(c)[r] = x.row(r)[c];
  }
  return y;
}

std::vector<const float*> rows_of(const Matrix<float>& x) {
  std::vector<const float*> rows;
  for (size_t r = 0; r < x.rows(); ++r) rows.push_back(x.row(r).data());
  return rows;
}

float as_computed(GemmType type, float x) { return type == GemmType::F32 ? x : bf16_to_float(float_to_bf16(x)); }

using Bytes = Matrix<std::byte>;

Bytes a_rows(const GemmKernels& gemm, GemmType type, const Matrix<float>& a_MK) {
  Bytes rows(a_MK.rows(), gemm_row_bytes(type, a_MK.cols()));
  for (size_t m = 0; m < a_MK.rows(); ++m) {
    if (type == GemmType::Bf16) gemm.round_row(a_MK.row(m).data(), a_MK.cols(), rows.row(m).data());
    else std::memcpy(rows.row(m).data(), a_MK.row(m).data(), rows.cols());
  }
  return rows;
}

Bytes strips_of(const GemmKernels& gemm, GemmType type, const Matrix<float>& b_NK) {
  Bytes strips((b_NK.rows() + 15) / 16, gemm_strip_bytes(type, b_NK.cols()));
  gemm.strips_of_rows(type, rows_of(b_NK).data(), b_NK.rows(), b_NK.cols(), strips.view().data(), GemmTo::Cache);
  return strips;
}

bool same(const Bytes& a, const Bytes& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && std::memcmp(a.view().data(), b.view().data(), a.rows() * a.cols()) == 0;
}

struct Shape {
  size_t m, n, k;
};
constexpr Shape kShapes[] = {{1, 1, 1}, {6, 64, 32}, {7, 65, 33}, {13, 16, 2}, {5, 47, 31}, {3, 100, 64}, {20, 33, 17}, {2, 130, 5}};

class GemmTables : public testing::TestWithParam<const Kernels*> {
 protected:
  const GemmKernels& gemm_ = *GetParam()->gemm;
};

TEST_P(GemmTables, ProductsAreThoseOfDoubles) {
  Random random(1);
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    for (const auto& [m, n, k] : kShapes) {
      const Matrix<float> a = random_matrix(random, m, k), b = random_matrix(random, n, k);
      const Bytes rows = a_rows(gemm_, type, a), strips = strips_of(gemm_, type, b);
      std::vector<const std::byte*> pointers;
      for (size_t r = 0; r < m; ++r) pointers.push_back(rows.row(r).data());
      for (const bool add : {false, true}) {
        Matrix<float> c(m, n + 3);  // what lies beside c stays
        for (size_t r = 0; r < m; ++r) std::ranges::fill(c.row(r), 2.0f);
        gemm_.multiply(type, pointers.data(), m, {strips.view().data(), strips.cols()}, n, gemm_steps(type, k), c.view().data(), n + 3, add, {});
        for (size_t r = 0; r < m; ++r) {
          for (size_t col = 0; col < n; ++col) {
            double sum = add ? 2.0 : 0.0, size = 2.0;
            for (size_t i = 0; i < k; ++i) {
              const double product = static_cast<double>(as_computed(type, a.row(r)[i])) * as_computed(type, b.row(col)[i]);
              sum += product;
              size += std::abs(product);
            }
            ASSERT_NEAR(c.row(r)[col], sum, size * 1e-6) << m << " x " << n << " x " << k << " at " << r << ", " << col;
          }
          for (size_t col = n; col < n + 3; ++col) ASSERT_EQ(c.row(r)[col], 2.0f);
        }
      }
    }
  }
}

TEST_P(GemmTables, ColumnsAreTheRowsOfTheTransposed) {
  Random random(2);
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    for (const auto& [unused, n, k] : kShapes) {
      // Columns 2 to 2 + n of a wider matrix
      const Matrix<float> wide_KN = random_matrix(random, k, n + 5), turned = transposed(wide_KN);
      Matrix<float> b_NK(n, k);
      for (size_t r = 0; r < n; ++r) std::ranges::copy(turned.row(r + 2), b_NK.row(r).begin());

      const Bytes expected_strips = strips_of(gemm_, type, b_NK), expected_rows = a_rows(gemm_, type, b_NK);
      Bytes strips(expected_strips.rows(), expected_strips.cols()), rows(n, gemm_row_bytes(type, k));
      gemm_.strips_of_columns(type, rows_of(wide_KN).data(), k, 2, n, strips.view().data(), strips.cols(), GemmTo::Memory);
      gemm_.turn_columns(type, rows_of(wide_KN).data(), k, 2, n, rows.view().data(), rows.cols());
      EXPECT_TRUE(same(strips, expected_strips)) << n << " x " << k;
      EXPECT_TRUE(same(rows, expected_rows)) << n << " x " << k;
      if (type == GemmType::F32) continue;

      // The same from rows that are rounded already
      Matrix<uint16_t> rounded_KN(k, n + 5);
      std::vector<const uint16_t*> rounded;
      for (size_t r = 0; r < k; ++r) {
        std::ranges::transform(wide_KN.row(r), rounded_KN.row(r).begin(), float_to_bf16);
        rounded.push_back(rounded_KN.row(r).data());
      }
      Bytes rounded_strips(strips.rows(), strips.cols()), rounded_rows(n, rows.cols());
      gemm_.strips_of_rounded_columns(rounded.data(), k, 2, n, rounded_strips.view().data(), rounded_strips.cols());
      gemm_.turn_rounded_columns(rounded.data(), k, 2, n, rounded_rows.view().data(), rounded_rows.cols());
      EXPECT_TRUE(same(rounded_strips, expected_strips)) << n << " x " << k;
      EXPECT_TRUE(same(rounded_rows, expected_rows)) << n << " x " << k;
    }
  }
}

TEST_P(GemmTables, LayOutWhatThePlainOneDoes) {
  Random random(3);
  const GemmKernels& plain = gemm_scalar();
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    for (const auto& [unused, n, k] : kShapes) {
      const Matrix<float> b = random_matrix(random, n, k);
      EXPECT_TRUE(same(strips_of(gemm_, type, b), strips_of(plain, type, b)));
      EXPECT_TRUE(same(a_rows(gemm_, type, b), a_rows(plain, type, b)));
      Bytes in_memory((n + 15) / 16, gemm_strip_bytes(type, k));
      gemm_.strips_of_rows(type, rows_of(b).data(), n, k, in_memory.view().data(), GemmTo::Memory);
      EXPECT_TRUE(same(in_memory, strips_of(plain, type, b)));
    }
  }
}

// So that it does not matter how a product is shared among threads.
TEST_P(GemmTables, AnElementHasTheSameBitsHoweverTheProductIsCut) {
  Random random(4);
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    const size_t m = 23, n = 150, k = 77, steps = gemm_steps(type, k);
    const Matrix<float> a = random_matrix(random, m, k), b = random_matrix(random, n, k);
    const Bytes rows = a_rows(gemm_, type, a), strips = strips_of(gemm_, type, b);
    std::vector<const std::byte*> pointers;
    for (size_t r = 0; r < m; ++r) pointers.push_back(rows.row(r).data());
    Matrix<float> whole(m, n), cut(m, n);
    gemm_.multiply(type, pointers.data(), m, {strips.view().data(), strips.cols()}, n, steps, whole.view().data(), n, false, {});
    for (size_t r = 0; r < m; r += 5) {
      for (size_t col = 0; col < n; col += 48) {
        gemm_.multiply(type, pointers.data() + r, std::min<size_t>(5, m - r), {strips.row(col / 16).data(), strips.cols()}, std::min<size_t>(48, n - col),
                       steps, cut.row(r).data() + col, n, false, {});
      }
    }
    EXPECT_EQ(std::memcmp(whole.view().data(), cut.view().data(), m * n * sizeof(float)), 0);
  }
}

// A part of the depth lies in the strips of all of it; and what is fetched meanwhile changes nothing.
TEST_P(GemmTables, PartsOfTheDepthAddUp) {
  Random random(5);
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    const size_t m = 19, n = 70, k = 90, half = 44;
    const Matrix<float> a = random_matrix(random, m, k), b = random_matrix(random, n, k);
    const Bytes rows = a_rows(gemm_, type, a), strips = strips_of(gemm_, type, b);
    const auto parts = [&](Matrix<float>& c, const auto& strips_at, const GemmAhead& ahead) {
      for (const auto& [from, to] : {std::pair{size_t{0}, half}, std::pair{half, k}}) {
        std::vector<const std::byte*> pointers;
        for (size_t r = 0; r < m; ++r) pointers.push_back(rows.row(r).data() + gemm_row_bytes(type, from));
        gemm_.multiply(type, pointers.data(), m, strips_at(from, to), n, gemm_steps(type, to - from), c.view().data(), n, from > 0, ahead);
      }
    };
    // The same parts laid out by themselves, from columns
    const Matrix<float> turned = transposed(b);
    Bytes own(strips.rows(), strips.cols());
    Matrix<float> expected(m, n), found(m, n);
    parts(expected, [&](size_t from, size_t to) {
      gemm_.strips_of_columns(type, rows_of(turned).data() + from, to - from, 0, n, own.view().data(), own.cols(), GemmTo::Cache);
      return GemmStrips{own.view().data(), own.cols()};
    }, {});
    const Matrix<std::byte> other(7, 100);
    parts(found, [&](size_t from, size_t) { return GemmStrips{strips.view().data() + gemm_strip_bytes(type, from), strips.cols()}; },
          {other.view().data(), 7, 90, 100});
    EXPECT_EQ(std::memcmp(expected.view().data(), found.view().data(), m * n * sizeof(float)), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GemmTables, testing::ValuesIn(available_kernels().begin(), available_kernels().end()),
                         [](const auto& test) { return std::string(test.param->name); });

}  // namespace
}  // namespace moiety::kernel
