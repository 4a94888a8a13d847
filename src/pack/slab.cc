#include "pack/slab.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "format/convert.h"
#include "format/elements.h"
#include "format/packed_experts.h"
#include "format/quantize.h"
#include "kernel/linear.h"

namespace moiety::pack {
namespace {

using format::TensorView;
using kernel::WeightView;
using spec::ElementType;

WeightView matrix_of(const TensorView& tensor) {
  return {tensor.type, tensor.bytes.data(), static_cast<size_t>(tensor.shape[0]), static_cast<size_t>(tensor.shape[1]),
          tensor.row_stride, tensor.scales};
}

// Calls visit(r, numbers) for all rows of the matrix, on all threads.
template <class Visit>
void for_each_row(ThreadPool& threads, const WeightView& matrix, Visit visit) {
  constexpr size_t kAtOnce = 16;
  threads.parallel_for((matrix.rows + kAtOnce - 1) / kAtOnce, [&](size_t task) {
    std::vector<float> numbers(matrix.cols);
    for (size_t r = task * kAtOnce; r < std::min(matrix.rows, (task + 1) * kAtOnce); ++r) {
      format::row_to_floats(matrix.type, matrix.row(r), matrix.scales, r, numbers);
      visit(r, numbers);
    }
  });
}

// One of the planes of a slab.
std::vector<std::byte> plane_of(ThreadPool& threads, const kernel::PackedView& whole, ElementType plane) {
  const spec::PackedLayout &upper = *spec::packed_layout(ElementType::Q8_0_UPPER), &lower = *spec::packed_layout(ElementType::Q8_0_LOWER);
  std::vector<std::byte> uppers(upper.bytes(whole.rows, whole.cols)), lowers(lower.bytes(whole.rows, whole.cols));
  threads.parallel_for(whole.strips(), [&](size_t strip) {
    kernel::split_strip(whole, strip, &uppers[strip * upper.strip_bytes(whole.cols)], &lowers[strip * lower.strip_bytes(whole.cols)]);
  });
  return plane == ElementType::Q8_0_UPPER ? uppers : lowers;
}

}  // namespace

std::vector<std::byte> make_slab(ThreadPool& threads, const TensorView& from, ElementType slab_type, std::span<const float> importance) {
  const ElementType to = format::whole_type(slab_type);
  WeightView matrix = matrix_of(from);
  std::vector<std::byte> encoded;
  if (to == from.type || (to == ElementType::MXFP4 && from.type == ElementType::MXFP4_PLANES)) {
    for_each_row(threads, matrix, [&](size_t, const std::vector<float>& numbers) {
      require(std::all_of(numbers.begin(), numbers.end(), [](float x) { return std::isfinite(x); }),
              "tensor {}: it holds a NaN or an infinity; the model is broken", from.name);
    });
  } else {
    const size_t row_bytes = spec::bytes_of(to, matrix.cols);
    encoded.resize(matrix.rows * row_bytes);
    for_each_row(threads, matrix, [&](size_t r, const std::vector<float>& numbers) {
      format::encode_row(to, numbers, importance, from.name, std::span(encoded).subspan(r * row_bytes, row_bytes));
    });
    matrix = {to, encoded.data(), matrix.rows, matrix.cols};
  }

  std::vector<std::byte> slab(*format::slab_bytes(to, matrix.rows, matrix.cols));
  if (const kernel::PackedType* type = kernel::packed_type(matrix.type)) {
    const kernel::PackedView packed{type, slab.data(), matrix.rows, matrix.cols};
    assert(packed.bytes() == slab.size());
    const kernel::Packing packing{&matrix, packed, slab.data()};
    kernel::pack(threads, {&packing, 1});
    if (slab_type != to) return plane_of(threads, packed, slab_type);
  } else {
    const size_t row_bytes = matrix.row_bytes();
    for (size_t r = 0; r < matrix.rows; ++r) std::memcpy(&slab[r * row_bytes], matrix.row(r), row_bytes);
  }
  return slab;
}

}  // namespace moiety::pack
