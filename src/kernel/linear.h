// The matrix product over all threads, in the arithmetic asked for.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "base/huge_memory.h"
#include "base/matrix.h"
#include "base/thread_pool.h"
#include "kernel/packed.h"
#include "kernel/planes.h"

namespace moiety::kernel {

enum class Arithmetic {
  Exact,  // weights as they lie in the file, activations, keys and values in f32: slower, for judging
  Fast,   // weights packed; activations rounded to what the weights' type multiplies fastest with
};

// Where packed weights go.
struct PackedMemory {
  HugeMemory memory;
  std::function<void(std::span<const std::byte>)> done_with;  // told of bytes that won't be read again; may be empty
};

// Told of what a matrix is multiplied with, a row of w_NK.cols numbers a token. Called by the thread that computes.
using InputObserver = std::function<void(const WeightView& w_NK, std::span<const float* const> x_TK)>;

// What a forward pass computes with: which kernels, on which threads, how exactly.
struct Compute {
  const Kernels& kernels;
  ThreadPool& threads;
  Arithmetic arithmetic = Arithmetic::Exact;
  PackedMemory* packed = nullptr;  // needed by Arithmetic::Fast
  const InputObserver* inputs = nullptr;  // of Arithmetic::Exact; nullptr: nobody is told
};

// A matrix of weights: as it lies in the file, in rows or in planes, and, once it was multiplied in fast arithmetic, packed.
struct Projection : WeightView {
  Projection() = default;
  Projection(const WeightView& view) : WeightView(view) {}
  Planes planes;  // instead of rows, of which it has none then
  mutable PackedView packed;
};

// Which form of activations `w` is multiplied with.
ActivationFormat activations_for(const Compute& compute, const WeightView& w);

// The activations of some tokens, [T, K], in the forms that the matrices they meet ask for. The view must outlive it.
class Activations {
 public:
  explicit Activations(MatrixView<const float> x_TK) : x_TK_(x_TK) {}
  size_t tokens() const { return x_TK_.rows(); }
  size_t cols() const { return x_TK_.cols(); }

  // A pointer a token; rounds them all when a format is first asked for.
  std::span<const std::byte* const> rows(const Compute& compute, ActivationFormat format);

 private:
  struct Rounded {
    ActivationFormat format;
    Matrix<std::byte> bytes;  // none of F32
    std::vector<const std::byte*> rows;
  };
  MatrixView<const float> x_TK_;
  std::deque<Rounded> rounded_;
};

// Tells compute.inputs, if somebody listens, of rows in the form that w_NK asks for.
void show_inputs(const Compute& compute, const WeightView& w_NK, std::span<const std::byte* const> rows);

// A matrix and where its packed form goes.
struct Packing {
  const WeightView* from;
  PackedView to;
  std::byte* out;  // to.data, to be written
  Planes planes = {};  // to be merged instead of rows
};
void pack(ThreadPool& threads, std::span<const Packing> packings);

// Packs those matrices that fast arithmetic wants packed and that are not yet. Not to be called from a parallel loop.
void pack(const Compute& compute, std::span<const Projection* const> matrices);

// Rows [first, first + count) of a matrix, whose activations for `tokens` tokens are in the form it asks for (rows of floats
// if it is not packed): y[t * y_stride + r]. `first` is a multiple of kStripRows. On the calling thread.
void multiply(const Kernels& kernels, const Projection& w, size_t first, size_t count, const std::byte* const* rows,
              size_t tokens, float* y, size_t y_stride);

// One of the products that some activations take part in: y_TN = x * w_NK transposed.
struct Product {
  const Projection& w_NK;
  MatrixView<float> y_TN;
};
void linear(const Compute& compute, Activations& x, std::span<const Product> products);
void linear(const Compute& compute, MatrixView<const float> x_TK, const Projection& w_NK, MatrixView<float> y_TN);

// The same with activations in f32 whatever the arithmetic: for what decides, such as routers.
void exact_linear(const Compute& compute, MatrixView<const float> x_TK, const WeightView& w_NK, MatrixView<float> y_TN);

// How many rows of a weight matrix one task takes: enough to be worth handing out, few enough that all threads get some.
// A multiple of kStripRows.
size_t rows_per_task(size_t rows, size_t threads);

// Calls body(matrix, first, count) for pieces of at most `step` rows, a multiple of kStripRows, of matrices of so many rows, on
// all threads as they become free, the first matrices first. With several NUMA nodes each has a share of every matrix's rows: its
// threads pack them and, as far as they are not busy otherwise, compute with them.
void for_each_piece(ThreadPool& threads, std::span<const size_t> rows, size_t step,
                    const std::function<void(size_t matrix, size_t first, size_t count)>& body);

}  // namespace moiety::kernel
