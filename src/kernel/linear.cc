#include "kernel/linear.h"

#include <algorithm>
#include <cassert>

namespace moiety::kernel {
ActivationFormat activations_for(const Compute& compute, const WeightView& w) {
  const PackedType* type = compute.arithmetic == Arithmetic::Fast ? packed_type(w.type) : nullptr;
  return type == nullptr ? ActivationFormat{} : type->activations;
}

std::span<const std::byte* const> Activations::rows(const Compute& compute, ActivationFormat format) {
  for (const Rounded& rounded : rounded_) {
    if (rounded.format == format) return rounded.rows;
  }
  Rounded& made = rounded_.emplace_back();
  made.format = format;
  made.rows.resize(tokens());
  if (format.form == ActivationForm::F32) {
    for (size_t t = 0; t < tokens(); ++t) made.rows[t] = reinterpret_cast<const std::byte*>(x_TK_.row(t).data());
    return made.rows;
  }
  made.bytes = Matrix<std::byte>::uninitialised(tokens(), activation_row_bytes(format, cols()));
  compute.threads.parallel_for(tokens(), [&](size_t t) {
    std::byte* row = made.bytes.row(t).data();
    compute.kernels.round_activations(format, x_TK_.row(t).data(), 0, cols(), cols(), row);
    made.rows[t] = row;
  });
  return made.rows;
}

void show_inputs(const Compute& compute, const WeightView& w_NK, std::span<const std::byte* const> rows) {
  if (compute.inputs == nullptr) return;
  assert(compute.arithmetic == Arithmetic::Exact);
  (*compute.inputs)(w_NK, {reinterpret_cast<const float* const*>(rows.data()), rows.size()});
}

void pack(ThreadPool& threads, std::span<const Packing> packings) {
  std::vector<size_t> rows;
  for (const Packing& packing : packings) rows.push_back(packing.from->rows);
  for_each_piece(threads, rows, 4 * kStripRows, [&](size_t m, size_t first, size_t count) {
    const auto& [from, to, out, planes] = packings[m];
    for (size_t strip = first / kStripRows; strip < (first + count + kStripRows - 1) / kStripRows; ++strip) {
      std::byte* const here = out + strip * to.strip_bytes();
      planes.empty() ? pack_strip(*from, strip, to, here) : merge_strip(planes, strip, to, here);
    }
  });
}

// Tells of the bytes that a matrix was packed from.
static void let_go(const Projection& matrix, const std::function<void(std::span<const std::byte>)>& done_with) {
  if (!matrix.planes.empty()) {
    for (const auto& [plane, type] : {std::pair{matrix.planes.upper, spec::ElementType::Q8_0_UPPER},
                                      std::pair{matrix.planes.lower, spec::ElementType::Q8_0_LOWER}}) {
      done_with({plane, spec::packed_layout(type)->bytes(matrix.rows, matrix.cols)});
    }
  } else if (matrix.row_stride == 0) {
    done_with({matrix.data, matrix.rows * matrix.row_bytes()});
  }
}

void pack(const Compute& compute, std::span<const Projection* const> matrices) {
  if (compute.arithmetic == Arithmetic::Exact) return;
  std::vector<const Projection*> missing;
  std::vector<Packing> packings;
  for (const Projection* matrix : matrices) {
    const PackedType* type = packed_type(matrix->type);
    if (matrix->WeightView::empty() || !matrix->packed.empty() || type == nullptr) continue;
    assert(std::find(missing.begin(), missing.end(), matrix) == missing.end());
    PackedView view{type, nullptr, matrix->rows, matrix->cols};
    std::byte* const out = compute.packed->memory.allocate(view.bytes());
    view.data = out;
    missing.push_back(matrix);
    packings.push_back({matrix, view, out, matrix->planes});
  }
  if (missing.empty()) return;

  pack(compute.threads, packings);
  for (size_t m = 0; m < missing.size(); ++m) {
    missing[m]->packed = packings[m].to;
    if (compute.packed->done_with) let_go(*missing[m], compute.packed->done_with);
  }
}

void multiply(const Kernels& kernels, const Projection& w, size_t first, size_t count, const std::byte* const* rows,
              size_t tokens, float* y, size_t y_stride) {
  assert(first % kStripRows == 0);
  if (w.packed.empty()) {
    kernels.linear(reinterpret_cast<const float* const*>(rows), tokens, w, first, count, y, y_stride);
  } else {
    assert(first + count == w.rows || count % kStripRows == 0);
    kernels.packed_linear(w.packed, first / kStripRows, (count + kStripRows - 1) / kStripRows, rows, tokens, y, y_stride);
  }
}

size_t rows_per_task(size_t rows, size_t threads) {
  // About eight tasks a thread, so that a thread that was interrupted holds up little.
  const size_t even = rows / (8 * threads);
  return std::clamp<size_t>(even / kStripRows * kStripRows, kStripRows, 8 * kStripRows);
}

void for_each_piece(ThreadPool& threads, std::span<const size_t> rows, size_t step,
                    const std::function<void(size_t matrix, size_t first, size_t count)>& body) {
  struct Piece {
    size_t matrix, first, count;
  };
  const size_t nodes = static_cast<size_t>(threads.num_nodes());
  const auto bound = [&](size_t m, size_t node) {
    return node == nodes ? rows[m] : rows[m] * node / nodes / kStripRows * kStripRows;
  };
  std::vector<Piece> pieces;
  std::vector<size_t> counts(nodes);
  for (size_t node = 0; node < nodes; ++node) {
    const size_t before = pieces.size();
    for (size_t m = 0; m < rows.size(); ++m) {
      const size_t end = bound(m, node + 1);
      for (size_t first = bound(m, node); first < end; first += step) pieces.push_back({m, first, std::min(step, end - first)});
    }
    counts[node] = pieces.size() - before;
  }
  threads.parallel_for_by_node(counts, [&](size_t i) { body(pieces[i].matrix, pieces[i].first, pieces[i].count); });
}

void linear(const Compute& compute, Activations& x, std::span<const Product> products) {
  std::vector<const Projection*> matrices;
  std::vector<std::span<const std::byte* const>> inputs;
  std::vector<size_t> rows;
  size_t all_rows = 0;
  for (const Product& p : products) {
    assert(x.cols() == p.w_NK.cols && p.y_TN.cols() == p.w_NK.rows && x.tokens() == p.y_TN.rows());
    matrices.push_back(&p.w_NK);
    inputs.push_back(x.rows(compute, activations_for(compute, p.w_NK)));
    show_inputs(compute, p.w_NK, inputs.back());
    rows.push_back(p.w_NK.rows);
    all_rows += p.w_NK.rows;
  }
  pack(compute, matrices);
  const size_t step = rows_per_task(all_rows, static_cast<size_t>(compute.threads.size()));
  for_each_piece(compute.threads, rows, step, [&](size_t m, size_t first, size_t count) {
    multiply(compute.kernels, *matrices[m], first, count, inputs[m].data(), x.tokens(), products[m].y_TN.data() + first,
             products[m].y_TN.stride());
  });
}

void linear(const Compute& compute, MatrixView<const float> x_TK, const Projection& w_NK, MatrixView<float> y_TN) {
  Activations x(x_TK);
  const Product product{w_NK, y_TN};
  linear(compute, x, {&product, 1});
}

void exact_linear(const Compute& compute, MatrixView<const float> x_TK, const WeightView& w_NK, MatrixView<float> y_TN) {
  linear({compute.kernels, compute.threads, Arithmetic::Exact}, x_TK, Projection(w_NK), y_TN);
}

}  // namespace moiety::kernel
