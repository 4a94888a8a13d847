// The matrix product over all threads.
#pragma once

#include "base/matrix.h"
#include "base/thread_pool.h"
#include "kernel/kernels.h"

namespace moiety::kernel {

enum class Arithmetic {
  Exact,  // activations, keys and values stay in f32: slower, for judging
  Fast,   // activations are rounded to what the weights' type multiplies fastest with
};

// What a forward pass computes with: which kernels, on which threads.
struct Compute {
  const Kernels& kernels;
  ThreadPool& threads;
  Arithmetic arithmetic = Arithmetic::Exact;
};

// y_TN = x_TD * w_ND transposed.
void linear(const Compute& compute, MatrixView<const float> x_TD, const WeightView& w_ND, MatrixView<float> y_TN);

// How many rows of a weight matrix one task takes: enough to be worth handing out, few enough that all threads get some.
size_t rows_per_task(size_t rows, size_t threads);

}  // namespace moiety::kernel
