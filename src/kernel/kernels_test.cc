#include "kernel/packed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>
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

// A matrix of random bits that are finite numbers of the type, its rows a gap apart if `gap` is not 0, its scales in blocks
// of 2 rows and 32 columns.
struct Weights {
  WeightView view;
  std::vector<std::byte> bytes, scales;

  Weights(ElementType type, size_t rows, size_t cols, uint64_t seed, size_t gap = 0) {
    view = {type, nullptr, rows, cols, gap == 0 ? 0 : spec::bytes_of(type, cols) + gap};
    const auto& block = spec::info(type);
    const size_t row_bytes = spec::bytes_of(type, cols);
    Random random(seed);
    bytes.resize(rows * (row_bytes + gap));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
    for (size_t r = 0; r < rows; ++r) {
      for (size_t b = 0; b < cols / block.block_elements; ++b) {
        make_finite(type, &bytes[r * (row_bytes + gap) + b * block.block_bytes], random);
      }
    }
    view.data = bytes.data();
    if (block.has_scales) add_scales(random);
  }

 private:
  static void make_finite(ElementType type, std::byte* block, Random& random) {
    const auto store_float = [&](size_t at, double scale) {
      const float x = static_cast<float>(random.normal() * scale);
      const uint16_t half = type == ElementType::BF16 ? float_to_bf16(x) : float_to_half(x);
      if (type == ElementType::F32) {
        std::memcpy(block + at, &x, 4);
      } else {
        std::memcpy(block + at, &half, 2);
      }
    };
    switch (type) {
      case ElementType::F32:
      case ElementType::F16:
      case ElementType::BF16:
        return store_float(0, 1);
      case ElementType::Q8_0:
        return store_float(0, 0.01);
      case ElementType::Q4_0:
      case ElementType::Q5_0:
        return store_float(0, 0.1);
      case ElementType::Q4_1:
      case ElementType::Q5_1:
        return store_float(0, 0.1), store_float(2, 1);
      case ElementType::Q2_K:
        return store_float(80, 0.05), store_float(82, 0.05);
      case ElementType::Q3_K:
        return store_float(108, 0.01);
      case ElementType::IQ4_NL:
        return store_float(0, 0.01);
      case ElementType::IQ4_XS:
        return store_float(0, 0.0005);
      case ElementType::Q4_K:
      case ElementType::Q5_K:
        return store_float(0, 0.002), store_float(2, 0.01);
      case ElementType::Q6_K:
        return store_float(208, 0.0005);
      case ElementType::MXFP4:
        *block = static_cast<std::byte>(123 + random.below(4));
        return;
      case ElementType::F8_E4M3:  // below 2 and no NaN
        *block &= std::byte{0xbf};
        return;
      default:
        return;
    }
  }

  void add_scales(Random& random) {
    const bool is_f8 = view.type == ElementType::F8_E4M3;
    const size_t grid_rows = (view.rows + 1) / 2, grid_cols = (view.cols + 31) / 32;
    for (size_t i = 0; i < grid_rows * grid_cols; ++i) {
      const float scale = static_cast<float>(random.normal());
      const auto power = static_cast<std::byte>(123 + random.below(4));
      const auto one = is_f8 ? std::as_bytes(std::span(&scale, 1)) : std::span(&power, 1);
      scales.insert(scales.end(), one.begin(), one.end());
    }
    view.scales = {scales.data(), grid_cols * (is_f8 ? 4 : 1), 2, 32};
  }
};

std::vector<const float*> rows_of(std::span<const float> x, size_t cols) {
  std::vector<const float*> rows;
  for (size_t at = 0; at + cols <= x.size(); at += cols) rows.push_back(&x[at]);
  return rows;
}

// Element k of a row, as the scalar kernels read it.
float element(const WeightView& w, size_t row, size_t k) {
  std::vector<float> one_hot(w.cols);
  one_hot[k] = 1;
  float value;
  scalar_kernels().linear(rows_of(one_hot, w.cols).data(), 1, w, row, 1, &value, 1);
  return value;
}

class EveryKernel : public testing::TestWithParam<std::tuple<const Kernels*, ElementType>> {};

TEST_P(EveryKernel, LinearEqualsTheSumInDouble) {
  const auto [kernels, type] = GetParam();
  for (const size_t cols : {32u, 64u, 96u, 7u, 17u, 250u, 256u, 512u}) {
    if (cols % spec::info(type).block_elements != 0) continue;
    const size_t most_rows = 13, most_tokens = 11;
    const Weights weights(type, most_rows + 3, cols, cols, cols % 64 == 0 ? 5 : 0);
    const auto x = random_floats(most_tokens * cols, cols + 1);
    std::vector<double> exact(most_tokens * most_rows), magnitude(most_tokens * most_rows);
    for (size_t r = 0; r < most_rows; ++r) {
      for (size_t k = 0; k < cols; ++k) {
        const double w = element(weights.view, r + 3, k);
        for (size_t t = 0; t < most_tokens; ++t) {
          exact[t * most_rows + r] += w * x[t * cols + k];
          magnitude[t * most_rows + r] += std::abs(w * x[t * cols + k]);
        }
      }
    }
    for (const size_t rows : {1u, 2u, 5u, 13u}) {
      for (const size_t tokens : {1u, 2u, 3u, 6u, 7u, 11u}) {
        std::vector<float> y(tokens * rows, NAN);
        kernels->linear(rows_of(x, cols).data(), tokens, weights.view, 3, rows, y.data(), rows);
        for (size_t t = 0; t < tokens; ++t) {
          for (size_t r = 0; r < rows; ++r) {
            const size_t i = t * most_rows + r;
            EXPECT_NEAR(y[t * rows + r], exact[i], 1e-6 * magnitude[i])
                << kernels->name << " cols " << cols << " rows " << rows << " tokens " << tokens;
          }
        }
      }
    }
  }
}

TEST_P(EveryKernel, ElementsAreTheScalarOnes) {
  const auto [kernels, type] = GetParam();
  const size_t cols = spec::info(type).block_elements == 1 ? 39 : 512;
  const Weights weights(type, 3, cols, 7, 2);
  for (size_t k = 0; k < cols; ++k) {
    std::vector<float> one_hot(cols);
    one_hot[k] = 1;
    float y[3];
    kernels->linear(rows_of(one_hot, cols).data(), 1, weights.view, 0, 3, y, 3);
    for (size_t r = 0; r < 3; ++r) ASSERT_EQ(y[r], element(weights.view, r, k)) << r << " " << k;
  }
}

TEST_P(EveryKernel, AResultDoesNotDependOnHowTheWorkWasCutUp) {
  const auto [kernels, type] = GetParam();
  const size_t cols = spec::info(type).block_elements == 1 ? 101 : 256, rows = 23, tokens = 17;
  const auto x = random_floats(tokens * cols, 1);
  const Weights weights(type, rows, cols, 2);
  std::vector<float> whole(tokens * rows), one_by_one(tokens * rows);
  kernels->linear(rows_of(x, cols).data(), tokens, weights.view, 0, rows, whole.data(), rows);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = 0; r < rows; ++r) {
      kernels->linear(&rows_of(x, cols)[t], 1, weights.view, r, 1, &one_by_one[t * rows + r], rows);
    }
  }
  EXPECT_EQ(whole, one_by_one);
}

TEST_P(EveryKernel, EveryByteOfE4M3IsItsNumber) {
  const auto [kernels, type] = GetParam();
  if (type != ElementType::F8_E4M3) return;
  for (int byte = 0; byte < 256; ++byte) {
    const std::vector<std::byte> bytes(16, static_cast<std::byte>(byte));
    std::vector<float> one_hot(16);
    one_hot[0] = 1;
    float y;
    kernels->linear(rows_of(one_hot, 16).data(), 1, {type, bytes.data(), 1, 16}, 0, 1, &y, 1);
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    if ((byte & 127) == 127) {
      EXPECT_TRUE(std::isnan(y)) << byte;
    } else {
      EXPECT_EQ(y, byte & 128 ? -magnitude : magnitude) << byte;
    }
  }
}

TEST_P(EveryKernel, AddScaledMatchesAPlainLoop) {
  const Kernels* kernels = std::get<0>(GetParam());
  for (const size_t n : {1u, 8u, 15u, 16u, 33u, 128u}) {
    const auto a = random_floats(n, n), b = random_floats(n, n + 1);
    std::vector<float> y = b;
    kernels->add_scaled(0.3f, a.data(), y.data(), n);
    for (size_t k = 0; k < n; ++k) EXPECT_NEAR(y[k], b[k] + 0.3f * a[k], 1e-6);
  }
}

// A matrix in packed form.
struct Packed {
  PackedView view;
  std::vector<std::byte> memory;

  explicit Packed(const WeightView& from) {
    view = {packed_type(from.type), nullptr, from.rows, from.cols};
    memory.resize(view.bytes() + 64);
    std::byte* data = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
    for (size_t s = 0; s < view.strips(); ++s) pack_strip(from, s, view, data + s * view.strip_bytes());
    view.data = data;
  }
};

// Rounded rows of activations.
struct Rounded {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<const std::byte*> rows;

  Rounded(const Kernels& kernels, ActivationFormat format, std::span<const float> x, size_t cols) {
    for (size_t t = 0; t < x.size() / cols; ++t) {
      bytes.emplace_back(activation_row_bytes(format, cols));
      kernels.round_activations(format, &x[t * cols], 0, cols, cols, bytes.back().data());
    }
    for (const auto& row : bytes) rows.push_back(row.data());
  }
};

template <class T>
T value_at(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// What column k of a rounded row stands for.
double rounded_value(ActivationFormat format, const std::byte* row, size_t k, size_t cols) {
  if (format.form == ActivationForm::Bf16) return bf16_to_float(value_at<uint16_t>(row + 2 * k));
  const float scale = value_at<float>(row + ActivationRow{cols}.scale() + 4 * (k / format.block()));
  return double{scale} * value_at<int8_t>(row + k);
}

std::vector<size_t> packed_columns(ElementType type) {
  if (packed_type(type)->activations.form == ActivationForm::Bf16) return {7, 32, 63, 256};
  if (packed_type(type)->block == 256) return {256, 768};
  return {32, 96, 512};
}

TEST_P(EveryKernel, RoundedActivationsAreNearAndTheSameAsTheScalarOnes) {
  const auto [kernels, type] = GetParam();
  if (packed_type(type) == nullptr) return;
  const ActivationFormat format = packed_type(type)->activations;
  for (const size_t cols : packed_columns(type)) {
    auto x = random_floats(3 * cols, cols);
    std::fill(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(cols / 2), 0.0f);
    x[2 * cols] = 1e-39f;
    const Rounded ours(*kernels, format, x, cols), plain(scalar_kernels(), format, x, cols);
    EXPECT_EQ(ours.bytes, plain.bytes);
    for (size_t t = 0; t < 3; ++t) {
      for (size_t k = 0; k < cols; ++k) {
        float largest = 0;
        const size_t begin = k / format.block() * format.block(), end = std::min(cols, begin + format.block());
        for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(x[t * cols + i]));
        const double allowed = format.form == ActivationForm::Bf16 ? std::abs(x[t * cols + k]) / 256 + 1e-39 : largest / 253;
        EXPECT_NEAR(rounded_value(format, ours.rows[t], k, cols), x[t * cols + k], allowed) << t << " " << k;
      }
    }
  }
}

TEST_P(EveryKernel, PackedLinearEqualsTheSumInDouble) {
  const auto [kernels, type] = GetParam();
  if (packed_type(type) == nullptr) return;
  const ActivationFormat format = packed_type(type)->activations;
  for (const size_t cols : packed_columns(type)) {
    const size_t rows = 37, tokens = 3;
    const Weights weights(type, rows, cols, cols, 6);
    const Packed packed(weights.view);
    const auto x = random_floats(tokens * cols, cols + 1);
    const Rounded rounded(*kernels, format, x, cols);
    std::vector<float> y(tokens * rows, NAN);
    kernels->packed_linear(packed.view, 0, 3, rounded.rows.data(), tokens, y.data(), rows);
    for (size_t r = 0; r < rows; ++r) {
      std::vector<double> exact(tokens), magnitude(tokens);
      for (size_t k = 0; k < cols; ++k) {
        const double w = element(weights.view, r, k);
        for (size_t t = 0; t < tokens; ++t) {
          const double product = w * rounded_value(format, rounded.rows[t], k, cols);
          exact[t] += product;
          magnitude[t] += std::abs(product);
        }
      }
      for (size_t t = 0; t < tokens; ++t) {
        EXPECT_NEAR(y[t * rows + r], exact[t], 2e-6 * magnitude[t]) << kernels->name << " row " << r << " cols " << cols;
      }
    }
  }
}

TEST_P(EveryKernel, PackedLinearGivesTheScalarBitsHoweverTheWorkIsCutUp) {
  const auto [kernels, type] = GetParam();
  if (packed_type(type) == nullptr) return;
  const ActivationFormat format = packed_type(type)->activations;
  for (const size_t cols : packed_columns(type)) {
    const size_t rows = 53, strips = 4, tokens = 19;
    const Weights weights(type, rows, cols, cols + 2);
    const Packed packed(weights.view);
    const auto x = random_floats(tokens * cols, cols + 1);
    const Rounded rounded(scalar_kernels(), format, x, cols);
    std::vector<float> plain(tokens * rows), whole(tokens * rows), pieces(tokens * rows);
    scalar_kernels().packed_linear(packed.view, 0, strips, rounded.rows.data(), tokens, plain.data(), rows);
    kernels->packed_linear(packed.view, 0, strips, rounded.rows.data(), tokens, whole.data(), rows);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t s = 0; s < strips; ++s) {
        kernels->packed_linear(packed.view, s, 1, &rounded.rows[t], 1, &pieces[t * rows + 16 * s], rows);
      }
    }
    EXPECT_EQ(whole, plain) << kernels->name << " cols " << cols;
    EXPECT_EQ(pieces, plain) << kernels->name << " cols " << cols;
  }
}

TEST_P(EveryKernel, SomethingInfiniteInTheActivationsShowsInTheResult) {
  const auto [kernels, type] = GetParam();
  if (packed_type(type) == nullptr) return;
  const ActivationFormat format = packed_type(type)->activations;
  const size_t cols = 256;
  const Weights weights(type, 16, cols, 3);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    auto x = random_floats(cols, 4);
    x[100] = bad;
    const Rounded rounded(*kernels, format, x, cols);
    std::vector<float> y(16);
    kernels->packed_linear(Packed(weights.view).view, 0, 1, rounded.rows.data(), 1, y.data(), 16);
    for (const float value : y) EXPECT_FALSE(std::isfinite(value));
  }
}

std::vector<ElementType> weight_types() {
  std::vector<ElementType> types;
  for (const auto& row : spec::element_types()) {
    if (row.is_weight) types.push_back(row.type);
  }
  return types;
}
std::string name_of(const testing::TestParamInfo<EveryKernel::ParamType>& info) {
  return std::string(std::get<0>(info.param)->name) + "_" + std::string(spec::name(std::get<1>(info.param)));
}
INSTANTIATE_TEST_SUITE_P(Kernels, EveryKernel,
                         testing::Combine(testing::ValuesIn(available_kernels().begin(), available_kernels().end()),
                                          testing::ValuesIn(weight_types())),
                         name_of);

TEST(Kernels, TheScalarTableIsAlwaysThere) {
  EXPECT_EQ(available_kernels().back(), &scalar_kernels());
  EXPECT_EQ(find_kernels("scalar"), &scalar_kernels());
  EXPECT_EQ(find_kernels("abacus"), nullptr);
}

}  // namespace
}  // namespace moiety::kernel
