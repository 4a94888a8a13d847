// The definition of correct, in plain C++ for any processor.
#include <cstring>

#include "base/bytes.h"
#include "kernel/kernels.h"

namespace moiety::kernel {
namespace {

using spec::ElementType;

// Sums are kept in so many lanes, which compilers turn into the vectors of any machine.
constexpr size_t kLanes = 16;

float sum_of(const float (&lanes)[kLanes]) {
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Element k of a row.
struct F32 {
  static float at(const std::byte* row, size_t k) { return load<float>(row + 4 * k); }
};
struct F16 {
  static float at(const std::byte* row, size_t k) { return half_to_float(load<uint16_t>(row + 2 * k)); }
};
struct BF16 {
  static float at(const std::byte* row, size_t k) { return bf16_to_float(load<uint16_t>(row + 2 * k)); }
};
struct Q8_0 {
  static float at(const std::byte* row, size_t k) {
    const std::byte* block = row + k / 32 * 34;
    return half_to_float(load<uint16_t>(block)) * static_cast<float>(load<int8_t>(block + 2 + k % 32));
  }
};

template <class Type>
float dot_row(const float* x, const std::byte* row, size_t n) {
  float lanes[kLanes] = {};
  for (size_t k = 0; k < n; ++k) lanes[k % kLanes] += x[k] * Type::at(row, k);
  return sum_of(lanes);
}

template <class Type>
void linear_of(const float* x, size_t x_stride, size_t tokens, const WeightView& w, size_t first_row, size_t rows,
               float* y, size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    const std::byte* row = w.data + (first_row + r) * w.row_bytes();
    for (size_t t = 0; t < tokens; ++t) y[t * y_stride + r] = dot_row<Type>(x + t * x_stride, row, w.cols);
  }
}

void linear(const float* x, size_t x_stride, size_t tokens, const WeightView& w, size_t first_row, size_t rows, float* y,
            size_t y_stride) noexcept {
  const auto run = [&](auto type) { linear_of<decltype(type)>(x, x_stride, tokens, w, first_row, rows, y, y_stride); };
  switch (w.type) {
    case ElementType::F32:
      return run(F32());
    case ElementType::F16:
      return run(F16());
    case ElementType::BF16:
      return run(BF16());
    case ElementType::Q8_0:
      return run(Q8_0());
    default:
      return;  // ModelFile lets only weight types through
  }
}

float dot(const float* a, const float* b, size_t n) noexcept {
  float lanes[kLanes] = {};
  for (size_t k = 0; k < n; ++k) lanes[k % kLanes] += a[k] * b[k];
  return sum_of(lanes);
}

void add_scaled(float factor, const float* x, float* y, size_t n) noexcept {
  for (size_t k = 0; k < n; ++k) y[k] += factor * x[k];
}

}  // namespace

const Kernels& scalar_kernels() {
  static const Kernels kernels{"scalar", linear, dot, add_scaled};
  return kernels;
}

}  // namespace moiety::kernel
