// The arithmetic of the forward pass: a table of functions per instruction set. scalar.cc defines correct; the others are
// tested against it. Kernels allocate nothing, throw nothing and use one thread.
//
// Within one table every output element is computed by the same operations in the same order however many tokens or rows
// are asked for at once, so a result never depends on how work was cut up.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "kernel/activations.h"
#include "kernel/attend.h"
#include "spec/element_type.h"
#include "spec/model_spec.h"

namespace moiety::kernel {

// A matrix of weights as it lies in the file: rows of `cols` elements in whole blocks.
struct WeightView {
  spec::ElementType type = spec::ElementType::F32;
  const std::byte* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t row_stride = 0;  // bytes from one row to the next; 0: one row after the other
  spec::Scales scales;    // of a type that keeps them apart

  size_t row_bytes() const { return spec::bytes_of(type, cols); }
  const std::byte* row(size_t r) const { return data + r * (row_stride != 0 ? row_stride : row_bytes()); }
  bool empty() const { return rows == 0; }
};

struct PackedView;   // kernel/packed.h
struct GemmKernels;  // kernel/gemm.h

struct Kernels {
  std::string_view name;

  // y[t * y_stride + r] = dot(x_T[t], row `first_row + r` of w) for t < tokens, r < rows.
  void (*linear)(const float* const* x_T, size_t tokens, const WeightView& w, size_t first_row, size_t rows, float* y,
                 size_t y_stride) noexcept;
  // y += factor * x
  void (*add_scaled)(float factor, const float* x, float* y, size_t n) noexcept;

  // Folds positions [block * kAttendBlock, …) of one head, which `kv` holds, as far as the rows see them, into the rows' states.
  // `scratch` has attend_scratch(key dim, value dim) floats.
  void (*attend)(const KvView& kv, size_t block, const AttendRows& rows, const AttendState& state, float* scratch) noexcept;
  // Folds states of later blocks into those of earlier ones, as attend would have done. value_dim is padded to kKvLanes.
  void (*fold)(const AttendState& from, const AttendState& into, size_t rows, size_t value_dim) noexcept;
  // gate = activation(gate, up), of n each.
  void (*activate)(spec::Activation activation, float* gate, const float* up, size_t n) noexcept;

  // Rounds columns [first, first + count) of a row of `cols` activations, at x, to where activation_row_bytes() begin at
  // `row`; whole blocks, or up to the row's end.
  void (*round_activations)(ActivationFormat format, const float* x, size_t first, size_t count, size_t cols,
                            std::byte* row) noexcept;
  // y[t * y_stride + r] = dot(activations at rows[t], row 16 * first_strip + r of w), for the rows of `strips` strips. The
  // activations are in the format of w's type. The same bits from every table.
  void (*packed_linear)(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows, size_t tokens,
                        float* y, size_t y_stride) noexcept;

  const GemmKernels* gemm;  // of training
};

const Kernels& scalar_kernels();
// Every table that this processor can run, the fastest first, the scalar one last.
std::span<const Kernels* const> available_kernels();
// nullptr: no such table, or this processor can't run it.
const Kernels* find_kernels(std::string_view name);

}  // namespace moiety::kernel
