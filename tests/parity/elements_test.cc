// Two readings of every weight type: the scalar kernels', one element at a time, and format's, a block at a time.
#include "format/elements.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "kernel/kernels.h"

namespace moiety {
namespace {

using spec::ElementType;

std::vector<ElementType> weight_types() {
  std::vector<ElementType> types;
  for (const auto& row : spec::element_types()) {
    if (row.is_weight) types.push_back(row.type);
  }
  return types;
}

class EveryWeightType : public testing::TestWithParam<ElementType> {};

TEST_P(EveryWeightType, IsReadAlikeByKernelsAndByFormat) {
  const auto& type = spec::info(GetParam());
  // Rows of one block, so that a scale that is no number shows in its own elements only.
  const size_t rows = 200, cols = type.has_scales ? 512 : type.block_elements, gap = 3;
  const size_t stride = spec::bytes_of(type.type, cols) + gap;
  Random random(type.block_bytes);
  std::vector<std::byte> bytes(rows * stride), powers(rows * cols / 32 + 1);
  std::vector<float> scales(rows / 2 * 4);
  for (std::byte& b : bytes) {
    do {
      b = static_cast<std::byte>(random.below(256));
    } while (type.type == ElementType::F8_E4M3 && (b & std::byte{127}) == std::byte{127});
  }
  for (std::byte& b : powers) b = static_cast<std::byte>(random.below(250));
  for (float& s : scales) s = static_cast<float>(random.normal());

  spec::Scales apart;
  if (type.type == ElementType::F8_E4M3) apart = {std::as_bytes(std::span(scales)).data(), 16, 2, 160};
  if (type.type == ElementType::MXFP4_PLANES) apart = {powers.data(), cols / 32, 1, 32};
  const kernel::WeightView matrix{type.type, bytes.data(), rows, cols, stride, apart};
  const format::TensorView tensor{"w", type.type, {int64_t{rows}, static_cast<int64_t>(cols)}, bytes, stride, apart};

  const std::vector<float> floats = format::to_floats(tensor);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t k = 0; k < cols; ++k) {
      std::vector<float> one_hot(cols);
      one_hot[k] = 1;
      float element;
      const float* x = one_hot.data();
      kernel::scalar_kernels().linear(&x, 1, matrix, r, 1, &element, 1);
      // Where a scale is infinite the zeros of the one-hot vector make a NaN of it.
      if (std::isfinite(element)) {
        ASSERT_EQ(floats[r * cols + k], element) << r << " " << k;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Elements, EveryWeightType, testing::ValuesIn(weight_types()),
                         [](const auto& test) { return std::string(spec::name(test.param)); });

}  // namespace
}  // namespace moiety
