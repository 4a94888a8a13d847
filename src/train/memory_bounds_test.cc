// What must never exist as a whole: the logits of a batch, the scores of a sequence. A child process that may not have so much memory
// computes them.
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/resource.h>

#include <fstream>

#include "train/attention.h"
#include "train/head.h"
#include "train/loops.h"

namespace moiety::train {
namespace {

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

// From here on this process gets no more than so many bytes beyond those it has.
void allow_only(size_t bytes) {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = pages * 4096 + bytes;
  setrlimit(RLIMIT_AS, &limit);
}

Matrix<float> ones(size_t rows, size_t cols) {
  Matrix<float> x(rows, cols);
  std::ranges::fill(x.flat(), 1.0f);
  return x;
}

constexpr size_t kRoom = 64 << 20;
// Outside the bounds that are tested, too: one thread, for a child's arenas are limited with the rest.
class MemoryBoundsDeathTest : public testing::Test {
 protected:
  MemoryBoundsDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

void all_at_once() {
  allow_only(kRoom);
  try {
    Buffer everything(8192, 8192);
    everything.row(0)[0] = 1;
  } catch (const std::bad_alloc&) {
    std::exit(3);
  }
}
TEST_F(MemoryBoundsDeathTest, TheBoundHolds) { EXPECT_EXIT(all_at_once(), testing::ExitedWithCode(3), ""); }

// 256 MiB of logits
void cross_entropy_of_many() {
  omp_set_num_threads(1);
  const size_t tokens = 8192, vocabulary = 8192, width = 8;
  const Matrix<float> x = ones(tokens, width), head = ones(vocabulary, width);
  Matrix<float> dx(tokens, width), dhead(vocabulary, width);
  const std::vector<int32_t> targets(tokens, 5);
  allow_only(kRoom);
  const CrossEntropy sum =
      cross_entropy_with_gradients(GemmType::F32, x.view(), head.view(), targets, 1.0f, dx.view(), dhead.view());
  std::exit(std::abs(sum.nats / tokens - std::log(8192.0)) < 1e-3 ? 0 : 1);
}
TEST_F(MemoryBoundsDeathTest, TheLogitsNeverExistAsAWhole) { EXPECT_EXIT(cross_entropy_of_many(), testing::ExitedWithCode(0), ""); }

// 256 MiB of scores
void attention_of_many() {
  omp_set_num_threads(1);
  const int tokens = 8192;
  const spec::AttentionSpec spec{.num_heads = 1, .num_kv_heads = 1, .head_dim = 8, .qk_norm = spec::QkNorm::None};
  const RotaryTable rotary = rotary_table(spec, tokens);
  const Attention attention(spec, 1e-5f, rotary);
  const Matrix<float> qkv = ones(tokens, 24), dout = ones(tokens, 8);
  Matrix<float> out(tokens, 8), dqkv(tokens, 24);
  const std::vector<Segment> segments{{0, tokens}};
  allow_only(kRoom);
  const AttentionSaved saved = attention.forward(qkv.view(), {}, segments, out.view());
  attention.backward(qkv.view(), {}, segments, saved, dout.view(), dqkv.view(), {});
  std::exit(std::abs(out.row(tokens - 1)[0] - 1) < 1e-3 ? 0 : 1);  // of equal values the mean is one of them
}
TEST_F(MemoryBoundsDeathTest, TheScoresNeverExistAsAWhole) { EXPECT_EXIT(attention_of_many(), testing::ExitedWithCode(0), ""); }

#endif

}  // namespace
}  // namespace moiety::train
