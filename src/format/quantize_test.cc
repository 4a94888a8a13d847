#include "format/quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "format/elements.h"
#include "format/fit_blocks.h"
#include "support/fixtures.h"

namespace moiety::format {
namespace {

using spec::ElementType;

std::string written(const TensorSource& tensor, int threads, const Importance* importance = nullptr) {
  test::TemporaryFolder folder;
  ThreadPool pool(threads);
  AtomicFile file(folder.path() / "x");
  Quantizer{pool, importance}.write(file, tensor);
  file.commit();
  return read_file(folder.path() / "x");
}

struct Stack {
  std::vector<float> x;
  TensorSource tensor;

  // Two matrices of three rows of 512, the second by rows and the first in one.
  Stack() : x(2 * 3 * 512) {
    Random random(1);
    for (float& value : x) value = static_cast<float>(random.normal());
    tensor.name = "w";
    tensor.type = ElementType::Q4_K;
    tensor.shape = {2, 3, 512};
    tensor.parts.push_back({"a", ElementType::F32, {3, 512}, std::as_bytes(std::span(x).first(3 * 512))});
    for (size_t r = 3; r < 6; ++r) {
      tensor.parts.push_back({"b", ElementType::F32, {1, 512}, std::as_bytes(std::span(x).subspan(r * 512, 512))});
    }
  }
};

TEST(Quantize, ThreadsChangeNothing) {
  const Stack stack;
  std::vector<std::byte> wanted(spec::bytes_of(ElementType::Q4_K, stack.x.size()));
  fit_blocks(ElementType::Q4_K, stack.x, {}, wanted);
  const std::string bytes(reinterpret_cast<const char*>(wanted.data()), wanted.size());
  EXPECT_EQ(written(stack.tensor, 1), bytes);
  EXPECT_EQ(written(stack.tensor, 3), bytes);
}

TEST(Quantize, EveryMatrixOfAStackHasItsOwnImportance) {
  const Stack stack;
  Importance importance;
  Random random(2);
  InputSums& sums = importance.tensors["w"];
  sums.counts = {2, 4};
  for (int i = 0; i < 2 * 512; ++i) sums.squares.push_back(std::exp(random.normal()));
  std::string wanted;
  for (size_t row = 0; row < 6; ++row) {
    std::vector<std::byte> bytes(spec::bytes_of(ElementType::Q4_K, 512));
    fit_blocks(ElementType::Q4_K, std::span(stack.x).subspan(row * 512, 512), importance.of("w", row / 3, 2, 512), bytes);
    wanted.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  EXPECT_EQ(written(stack.tensor, 2, &importance), wanted);
}

TEST(Quantize, MadePiecesAndTheSameTypePassThrough) {
  Stack stack;
  TensorSource made = stack.tensor;
  made.parts.clear();
  made.made = {[&] { return std::vector<float>(stack.x.begin(), stack.x.begin() + 3 * 512); },
               [&] { return std::vector<float>(stack.x.begin() + 3 * 512, stack.x.end()); }};
  EXPECT_EQ(written(made, 2), written(stack.tensor, 2));
  stack.tensor.type = ElementType::F32;
  EXPECT_EQ(written(stack.tensor, 2).size(), stack.x.size() * 4);
}

TEST(Quantize, ABrokenModelIsNotPassedOn) {
  Stack stack;
  stack.x[700] = NAN;
  EXPECT_THROW(written(stack.tensor, 2), Error);
}

}  // namespace
}  // namespace moiety::format
