#include "kernel/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"

namespace moiety::kernel {
namespace {

using spec::ElementType;

std::vector<float> random_floats(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& value : x) value = static_cast<float>(random.normal());
  return x;
}

// Random bits that are finite numbers of the type.
std::vector<std::byte> random_weights(ElementType type, size_t rows, size_t cols, uint64_t seed) {
  std::vector<std::byte> bytes(spec::bytes_of(type, rows * cols));
  const std::vector<float> x = random_floats(rows * cols, seed);
  Random random(seed + 1);
  for (size_t i = 0; i < rows * cols; ++i) {
    if (type == ElementType::F32) std::memcpy(&bytes[4 * i], &x[i], 4);
    const uint16_t half = type == ElementType::F16 ? float_to_half(x[i]) : float_to_bf16(x[i]);
    if (type == ElementType::F16 || type == ElementType::BF16) std::memcpy(&bytes[2 * i], &half, 2);
    if (type == ElementType::Q8_0) {
      const uint16_t scale = float_to_half(0.01f + 0.001f * static_cast<float>(i / 32 % 7));
      std::memcpy(&bytes[i / 32 * 34], &scale, 2);
      bytes[i / 32 * 34 + 2 + i % 32] = static_cast<std::byte>(random.below(255) - 127);
    }
  }
  return bytes;
}

// The sum in double, from the elements as the scalar kernel reads them one at a time.
double exact(const float* x, const WeightView& w, size_t row) {
  double sum = 0;
  const std::byte* bytes = w.data + row * w.row_bytes();
  for (size_t k = 0; k < w.cols; ++k) {
    uint16_t bits;
    float value = 0;
    switch (w.type) {
      case ElementType::F32:
        std::memcpy(&value, bytes + 4 * k, 4);
        break;
      case ElementType::F16:
        std::memcpy(&bits, bytes + 2 * k, 2);
        value = half_to_float(bits);
        break;
      case ElementType::BF16:
        std::memcpy(&bits, bytes + 2 * k, 2);
        value = bf16_to_float(bits);
        break;
      default: {
        std::memcpy(&bits, bytes + k / 32 * 34, 2);
        value = half_to_float(bits) * static_cast<float>(static_cast<int8_t>(bytes[k / 32 * 34 + 2 + k % 32]));
      }
    }
    sum += double{x[k]} * value;
  }
  return sum;
}

class EveryKernel : public testing::TestWithParam<std::tuple<const Kernels*, ElementType>> {};

TEST_P(EveryKernel, LinearEqualsTheSumInDouble) {
  const auto [kernels, type] = GetParam();
  for (const size_t cols : {32u, 64u, 96u, 7u, 17u, 250u}) {
    if (cols % spec::info(type).block_elements != 0) continue;
    for (const size_t rows : {1u, 2u, 5u, 13u}) {
      for (const size_t tokens : {1u, 2u, 3u, 6u, 7u, 11u}) {
        const auto x = random_floats(tokens * cols, cols + tokens);
        const auto bytes = random_weights(type, rows + 3, cols, rows);
        const WeightView w{type, bytes.data(), rows + 3, cols};
        std::vector<float> y(tokens * rows, NAN);
        kernels->linear(x.data(), cols, tokens, w, 3, rows, y.data(), rows);
        for (size_t t = 0; t < tokens; ++t) {
          for (size_t r = 0; r < rows; ++r) {
            EXPECT_NEAR(y[t * rows + r], exact(&x[t * cols], w, r + 3), 2e-5 * std::sqrt(double(cols)))
                << kernels->name << " cols " << cols << " rows " << rows << " tokens " << tokens;
          }
        }
      }
    }
  }
}

TEST_P(EveryKernel, AResultDoesNotDependOnHowTheWorkWasCutUp) {
  const auto [kernels, type] = GetParam();
  const size_t cols = 96, rows = 23, tokens = 17;
  const auto x = random_floats(tokens * cols, 1);
  const auto bytes = random_weights(type, rows, cols, 2);
  const WeightView w{type, bytes.data(), rows, cols};
  std::vector<float> whole(tokens * rows), one_by_one(tokens * rows);
  kernels->linear(x.data(), cols, tokens, w, 0, rows, whole.data(), rows);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = 0; r < rows; ++r) {
      kernels->linear(&x[t * cols], cols, 1, w, r, 1, &one_by_one[t * rows + r], rows);
    }
  }
  EXPECT_EQ(whole, one_by_one);
}

TEST_P(EveryKernel, DotAndAddScaledMatchPlainLoops) {
  const Kernels* kernels = std::get<0>(GetParam());
  for (const size_t n : {1u, 8u, 15u, 16u, 33u, 128u}) {
    const auto a = random_floats(n, n), b = random_floats(n, n + 1);
    double sum = 0;
    for (size_t k = 0; k < n; ++k) sum += double{a[k]} * b[k];
    EXPECT_NEAR(kernels->dot(a.data(), b.data(), n), sum, 1e-5 * n);
    std::vector<float> y = b;
    kernels->add_scaled(0.3f, a.data(), y.data(), n);
    for (size_t k = 0; k < n; ++k) EXPECT_NEAR(y[k], b[k] + 0.3f * a[k], 1e-6);
  }
}

std::string name_of(const testing::TestParamInfo<EveryKernel::ParamType>& info) {
  return std::string(std::get<0>(info.param)->name) + "_" + std::string(spec::name(std::get<1>(info.param)));
}
INSTANTIATE_TEST_SUITE_P(Kernels, EveryKernel,
                         testing::Combine(testing::ValuesIn(available_kernels().begin(), available_kernels().end()),
                                          testing::Values(ElementType::F32, ElementType::F16, ElementType::BF16,
                                                          ElementType::Q8_0)),
                         name_of);

TEST(Kernels, TheScalarTableIsAlwaysThere) {
  EXPECT_EQ(available_kernels().back(), &scalar_kernels());
  EXPECT_EQ(find_kernels("scalar"), &scalar_kernels());
  EXPECT_EQ(find_kernels("abacus"), nullptr);
}

}  // namespace
}  // namespace moiety::kernel
