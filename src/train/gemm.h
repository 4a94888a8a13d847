// Matrix products of training, in f32 or with operands rounded to bf16 on the way in (kernel/gemm.h): memory holds f32 either way.
// On the calling thread inside a parallel region, on all threads outside; the same bits whatever their number.
#pragma once

#include <span>

#include "base/matrix.h"
#include "kernel/gemm.h"
#include "train/packed.h"
#include "train/scratch.h"

namespace moiety::train {

using kernel::GemmType;

// The fastest that this machine has.
const kernel::GemmKernels& gemm_kernels();

// Where the rows begin.
std::span<const float* const> row_pointers(MatrixView<const float> x, Scratch& memory);

enum class Into { Overwrite, Add };

// The second operand of a product: numbers, of which a product in bf16 reads the packed form if there is one.
struct Operand {
  Operand(MatrixView<const float> v, const PackedMatrix& p = {}) : values(v), packed(p) {}
  Operand(MatrixView<float> v, const PackedMatrix& p = {}) : values(v), packed(p) {}

  MatrixView<const float> values;
  PackedMatrix packed;
};

// c = a * bᵀ, a * b, aᵀ * b; the letters are the operands as they lie in memory.
void multiply_nt(GemmType type, MatrixView<const float> a_MK, const Operand& b_NK, MatrixView<float> c_MN, Into into = Into::Overwrite);
void multiply_nn(GemmType type, MatrixView<const float> a_MK, const Operand& b_KN, MatrixView<float> c_MN, Into into = Into::Overwrite);
void multiply_tn(GemmType type, MatrixView<const float> a_KM, MatrixView<const float> b_KN, MatrixView<float> c_MN,
                 Into into = Into::Overwrite);

}  // namespace moiety::train
