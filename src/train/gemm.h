// Matrix products of f32 by oneDNN (the one libtorch itself links), which runs at the machine's speed where the
// OpenBLAS of Debian 12 doesn't know the processor. One thread inside a parallel region, all threads outside.
#pragma once

#include "base/matrix.h"

namespace moiety::train {

enum class Into { Overwrite, Add };

// c = a * bᵀ, a * b, aᵀ * b; the letters are the operands as they lie in memory.
void multiply_nt(MatrixView<const float> a_MK, MatrixView<const float> b_NK, MatrixView<float> c_MN,
                 Into into = Into::Overwrite);
void multiply_nn(MatrixView<const float> a_MK, MatrixView<const float> b_KN, MatrixView<float> c_MN,
                 Into into = Into::Overwrite);
void multiply_tn(MatrixView<const float> a_KM, MatrixView<const float> b_KN, MatrixView<float> c_MN,
                 Into into = Into::Overwrite);

}  // namespace moiety::train
