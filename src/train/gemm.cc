#include "train/gemm.h"

#include <algorithm>
#include <cstdint>

// Declared here so that the library that comes with libtorch is enough; its headers are another package.
extern "C" int dnnl_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

namespace moiety::train {
namespace {

void multiply(char transpose_a, char transpose_b, size_t inner, MatrixView<const float> a, MatrixView<const float> b,
              MatrixView<float> c, Into into) {
  if (c.rows() == 0 || c.cols() == 0) return;
  if (inner == 0) {
    if (into == Into::Overwrite) {
      for (size_t r = 0; r < c.rows(); ++r) std::ranges::fill(c.row(r), 0.0f);
    }
    return;
  }
  const auto stride = [](const auto& matrix) { return static_cast<int64_t>(matrix.stride()); };
  [[maybe_unused]] const int status = dnnl_sgemm(
      transpose_a, transpose_b, static_cast<int64_t>(c.rows()), static_cast<int64_t>(c.cols()),
      static_cast<int64_t>(inner), 1.0f, a.data(), stride(a), b.data(), stride(b),
      into == Into::Add ? 1.0f : 0.0f, c.data(), stride(c));
  assert(status == 0);
}

}  // namespace

void multiply_nt(MatrixView<const float> a_MK, MatrixView<const float> b_NK, MatrixView<float> c_MN, Into into) {
  assert(a_MK.rows() == c_MN.rows() && b_NK.rows() == c_MN.cols() && a_MK.cols() == b_NK.cols());
  multiply('N', 'T', a_MK.cols(), a_MK, b_NK, c_MN, into);
}

void multiply_nn(MatrixView<const float> a_MK, MatrixView<const float> b_KN, MatrixView<float> c_MN, Into into) {
  assert(a_MK.rows() == c_MN.rows() && b_KN.cols() == c_MN.cols() && a_MK.cols() == b_KN.rows());
  multiply('N', 'N', a_MK.cols(), a_MK, b_KN, c_MN, into);
}

void multiply_tn(MatrixView<const float> a_KM, MatrixView<const float> b_KN, MatrixView<float> c_MN, Into into) {
  assert(a_KM.cols() == c_MN.rows() && b_KN.cols() == c_MN.cols() && a_KM.rows() == b_KN.rows());
  multiply('T', 'N', a_KM.rows(), a_KM, b_KN, c_MN, into);
}

}  // namespace moiety::train
