#include "kernel/planes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"
#include "kernel/linear.h"

namespace moiety::kernel {
namespace {

using spec::ElementType;
using Bytes = std::vector<std::byte>;

constexpr uint16_t kSomeScales[] = {0, 1, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0x8001, 0xfbff};  // of halves: none, least, most, negative

Bytes random_bytes(size_t count, Random& random) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
  return bytes;
}

// Any bytes at all as blocks of Q8_0, some under extreme scales.
struct Whole {
  size_t rows, cols;
  Bytes rows_bytes, packed_bytes;
  WeightView view;
  PackedView packed;

  Whole(size_t rows_, size_t cols_, Random& random) : rows(rows_), cols(cols_) {
    rows_bytes = random_bytes(rows * cols / 32 * 34, random);
    for (size_t at = 0; at < rows_bytes.size(); at += 34) {
      const uint16_t scale = random.below(2) == 0 ? kSomeScales[random.below(std::size(kSomeScales))]
                                                  : static_cast<uint16_t>(0x2000 + random.below(0x1000));
      std::memcpy(&rows_bytes[at], &scale, 2);
    }
    view = {ElementType::Q8_0, rows_bytes.data(), rows, cols};
    packed = {packed_type(ElementType::Q8_0), nullptr, rows, cols};
    packed_bytes.resize(packed.bytes());
    for (size_t s = 0; s < packed.strips(); ++s) pack_strip(view, s, packed, packed_bytes.data() + s * packed.strip_bytes());
    packed.data = packed_bytes.data();
  }
};

struct Cut {
  Bytes upper, lower;
  explicit Cut(const Whole& whole) {
    const auto& above = *spec::packed_layout(ElementType::Q8_0_UPPER);
    const auto& below = *spec::packed_layout(ElementType::Q8_0_LOWER);
    upper.assign(above.bytes(whole.rows, whole.cols), std::byte{0xee});
    lower.assign(below.bytes(whole.rows, whole.cols), std::byte{0xee});
    for (size_t s = 0; s < whole.packed.strips(); ++s) {
      split_strip(whole.packed, s, &upper[s * above.strip_bytes(whole.cols)], &lower[s * below.strip_bytes(whole.cols)]);
    }
  }
};

TEST(Planes, TogetherAreTheWholeToTheBit) {
  Random random(4);
  for (int attempt = 0; attempt < 40; ++attempt) {
    const Whole whole(1 + random.below(60), 32 * (1 + random.below(9)), random);
    const Cut planes(whole);
    EXPECT_LE(planes.upper.size() + planes.lower.size(), whole.packed_bytes.size() + 64 * whole.packed.strips()) << "no byte is there twice";
    Bytes merged(whole.packed_bytes.size(), std::byte{0xee});
    for (size_t s = 0; s < whole.packed.strips(); ++s) {
      merge_strip({planes.upper.data(), planes.lower.data()}, s, whole.packed, &merged[s * whole.packed.strip_bytes()]);
    }
    ASSERT_EQ(merged, whole.packed_bytes) << whole.rows << " x " << whole.cols;
  }
}

// What an upper nibble stands for, from its definition: the middle of the sixteen numbers that have it, towards zero.
int middle(int8_t q) {
  const int first = (q + 128) / 16 * 16 - 128, twice = 2 * first + 15;
  return twice / 2;
}

TEST(Planes, TheUpperOneIsWithinHalfAStepOfTheWhole) {
  int sum = 0;
  for (int q = -128; q <= 127; ++q) {
    EXPECT_LE(std::abs(middle(static_cast<int8_t>(q)) - q), 8) << q;
    sum += middle(static_cast<int8_t>(q)) - q;
  }
  EXPECT_EQ(sum, 0);
}

TEST(Planes, TheUpperOneIsMultipliedAsWhatItStandsForByEveryKernel) {
  Random random(6);
  const ActivationFormat format = packed_type(ElementType::Q8_0_UPPER)->activations;
  for (const size_t cols : {32u, 96u, 512u}) {
    constexpr size_t kRows = 37, kTokens = 3;
    const Whole whole(kRows, cols, random);
    const Cut planes(whole);
    Bytes aligned(planes.upper.size() + 64);
    std::byte* const data = aligned.data() + (64 - reinterpret_cast<uintptr_t>(aligned.data()) % 64);
    std::memcpy(data, planes.upper.data(), planes.upper.size());
    const PackedView upper{packed_type(ElementType::Q8_0_UPPER), data, kRows, cols};

    std::vector<float> x(kTokens * cols);
    for (float& value : x) value = static_cast<float>(random.normal());
    Bytes rounded[kTokens];
    const std::byte* rows[kTokens];
    for (size_t t = 0; t < kTokens; ++t) {
      rounded[t].resize(activation_row_bytes(format, cols));
      scalar_kernels().round_activations(format, &x[t * cols], 0, cols, cols, rounded[t].data());
      rows[t] = rounded[t].data();
    }
    std::vector<float> plain(kTokens * kRows);
    scalar_kernels().packed_linear(upper, 0, upper.strips(), rows, kTokens, plain.data(), kRows);
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t r = 0; r < kRows; ++r) {
        double exact = 0, magnitude = 0;
        for (size_t k = 0; k < cols; ++k) {
          const std::byte* block = whole.view.row(r) + k / 32 * 34;
          uint16_t half;
          std::memcpy(&half, block, 2);
          float scale;
          std::memcpy(&scale, rows[t] + ActivationRow{cols}.scale() + 4 * (k / 32), 4);
          const double product = double{half_to_float(half)} * middle(static_cast<int8_t>(block[2 + k % 32])) * double{scale} *
                                 static_cast<int8_t>(rows[t][k]);
          exact += product;
          magnitude += std::abs(product);
        }
        EXPECT_NEAR(plain[t * kRows + r], exact, 2e-6 * magnitude) << "row " << r << " of " << cols << " columns";
      }
    }
    for (const Kernels* kernels : available_kernels()) {
      std::vector<float> y(kTokens * kRows);
      kernels->packed_linear(upper, 0, upper.strips(), rows, kTokens, y.data(), kRows);
      EXPECT_EQ(y, plain) << kernels->name;
    }
  }
}

TEST(Planes, AMatrixInPlanesIsMergedWhenItIsFirstNeededAndItsBytesAreLetGo) {
  Random random(8);
  const Whole whole(50, 96, random);
  const Cut planes(whole);
  ThreadPool threads(2);
  std::vector<std::pair<const std::byte*, size_t>> gone;
  PackedMemory memory{{}, [&](std::span<const std::byte> bytes) { gone.emplace_back(bytes.data(), bytes.size()); }};
  Projection matrix(WeightView{ElementType::Q8_0, nullptr, whole.rows, whole.cols});
  matrix.planes = {planes.upper.data(), planes.lower.data()};
  const Projection* const matrices[] = {&matrix};
  pack({scalar_kernels(), threads, Arithmetic::Fast, &memory}, matrices);
  ASSERT_EQ(matrix.packed.bytes(), whole.packed_bytes.size());
  EXPECT_EQ(std::memcmp(matrix.packed.data, whole.packed_bytes.data(), whole.packed_bytes.size()), 0);
  EXPECT_EQ(gone, (std::vector<std::pair<const std::byte*, size_t>>{{planes.upper.data(), planes.upper.size()},
                                                                    {planes.lower.data(), planes.lower.size()}}));
}

}  // namespace
}  // namespace moiety::kernel
