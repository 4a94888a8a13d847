#include "bench/measure.h"

#include <gtest/gtest.h>

#include <optional>

#include "base/error.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::bench {
namespace {

// The small model of the tests: width 32, vocabulary 50, 2 layers of 4 heads and 2 key-value heads of 8, 4 experts of width
// 32, of which 2 a token; all weights in f32.
class Measured : public testing::Test {
 protected:
  void SetUp() override {
    test::write_random_checkpoint(test::small_spec(), folder_.path() / "model");
    file_.emplace(folder_.path() / "model");
    compute_.emplace(kernel::Compute{*kernel::available_kernels()[0], threads_});
    transformer_.emplace(*file_, *compute_);
  }

  test::TemporaryFolder folder_;
  ThreadPool threads_{2};
  std::optional<format::ModelFile> file_;
  std::optional<kernel::Compute> compute_;
  std::optional<model::Transformer> transformer_;
};

constexpr double kExpert = 3 * 32 * 32;                           // numbers of one expert
constexpr double kAttention = 2 * 32 * 32 + 2 * 16 * 32;          // query, output; key, value
constexpr double kLayer = 2 * 32 + kAttention + 4 * 32;           // two norms, attention, router
constexpr double kHead = 32 + 50 * 32;                            // final norm, head
constexpr double kCacheRow = 2 * 2 * 8;                           // of a layer: key and value of two heads

moe::Routing routing_to(std::vector<int32_t> experts_N) {
  moe::Routing routing{.num_experts = 4};
  for (size_t n = 2; n <= experts_N.size(); n += 2) routing.begin_T1.push_back(static_cast<int32_t>(n));
  routing.experts_N = std::move(experts_N);
  return routing;
}

TEST_F(Measured, ADecodedTokenReadsItsExpertsAndAllElseOnce) {
  WorkCounter counter(*file_, *compute_);
  model::KvCache cache(file_->spec(), 8);
  cache.reserve(5);
  cache.advance(5);
  const std::vector<int32_t> token{7};
  counter.add_step(std::vector<model::Chunk>{{&cache, token}});
  counter.add_routing(0, routing_to({0, 3}));
  counter.add_routing(1, routing_to({1, 2}));
  const Work& work = counter.work();
  EXPECT_EQ(work.weight_bytes, 4 * (32 + 2 * kLayer + kHead + 4 * kExpert));
  EXPECT_EQ(work.cache_bytes, 4 * 2 * 6 * kCacheRow);
  EXPECT_EQ(work.experts / work.sparse_layers, 2);
  const double attention = 2 * 2 * (2 * 8) * 4 * 6;  // two layers, two operations, 8 + 8 numbers, four heads, six positions
  EXPECT_EQ(work.operations[0], attention + 2 * (2 * (kAttention + 4 * 32) + 50 * 32 + 4 * kExpert));
}

TEST_F(Measured, SequencesThatVisitTheSameExpertReadItOnceAndMultiplyByItTwice) {
  WorkCounter counter(*file_, *compute_);
  model::KvCache one(file_->spec(), 8), two(file_->spec(), 8);
  const std::vector<int32_t> token{7};
  counter.add_step(std::vector<model::Chunk>{{&one, token}, {&two, token}});
  const Work before = counter.work();
  counter.add_routing(0, routing_to({0, 3, 3, 1}));
  EXPECT_EQ(counter.work().weight_bytes - before.weight_bytes, 4 * 3 * kExpert);
  EXPECT_EQ(counter.work().operations[0] - before.operations[0], 2 * 4 * kExpert);
}

TEST_F(Measured, AWindowIsAllThatIsLookedAt) {
  spec::ModelSpec spec = test::small_spec();
  spec.attention.sliding_window = 3;
  test::write_random_checkpoint(spec, folder_.path() / "windowed");
  const format::ModelFile file(folder_.path() / "windowed");
  const auto bytes_of = [&](size_t before, size_t tokens) {
    WorkCounter counter(file, *compute_);
    model::KvCache cache(file.spec(), 20);
    cache.reserve(before);
    cache.advance(before);
    const std::vector<int32_t> ids(tokens, 7);
    counter.add_step(std::vector<model::Chunk>{{&cache, ids}});
    return counter.work().cache_bytes / (4 * 2 * kCacheRow);
  };
  EXPECT_EQ(bytes_of(0, 1), 1);
  EXPECT_EQ(bytes_of(1, 1), 2);
  EXPECT_EQ(bytes_of(9, 1), 3);
  EXPECT_EQ(bytes_of(9, 4), 6);
}

TEST(Bound, IsWhateverTakesLonger) {
  const Limits limits{.read_bandwidth = 100, .operations = {10, 20, 40}};
  Work work{.weight_bytes = 900, .cache_bytes = 100, .operations = {0, 40, 80}};
  EXPECT_TRUE(bound_of(work, limits).is_memory());
  EXPECT_EQ(bound_of(work, limits).seconds(), 10);
  work.operations = {0, 40, 400};
  EXPECT_FALSE(bound_of(work, limits).is_memory());
  EXPECT_EQ(bound_of(work, limits).seconds(), 12);
  EXPECT_EQ(bound_of(work, limits).unit, Unit::Int8);
  work.disk_bytes = 26;
  EXPECT_EQ(bound_of(work, {100, {10, 20, 40}, 2}).seconds(), 13);
  EXPECT_TRUE(bound_of(work, {100, {10, 20, 40}, 2}).is_disk());
}

TEST_F(Measured, EveryCaseIsRunInEveryRound) {
  const std::vector<Case> cases{{Phase::Prefill, 1, 20, 0}, {Phase::Decode, 3, 4, 0}, {Phase::Decode, 2, 4, 9}};
  size_t done = 0, all = 0;
  const auto results = measure(*transformer_, *compute_, cases,
                               {.rounds = 2, .kv = kernel::KvType::BF16, .limit_memory = 4 << 20, .progress = [&](size_t so_far, size_t of) { done = so_far, all = of; }});
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(all, 3 * (20 + 3 * 4 + 2 * 4) + 9u);
  EXPECT_EQ(done, all);
  for (const Result& result : results) {
    EXPECT_EQ(result.rounds.size(), 2u);
    EXPECT_GT(result.tokens_per_second(), 0);
    EXPECT_GT(result.share_of_bound(), 0);
  }
  const Work prefill = results[0].rounds[1].work, decode = results[1].rounds[1].work;
  EXPECT_EQ(prefill.steps, 1);
  EXPECT_EQ(decode.steps, 4);
  // Three sequences with tokens of their own visit more than one token's two experts, and no more than there are.
  EXPECT_GT(decode.experts / decode.sparse_layers, 2);
  EXPECT_LE(decode.experts / decode.sparse_layers, 4);
}

TEST_F(Measured, RoundsHaveTokensOfTheirOwnIfAsked) {
  const std::vector<Case> cases{{Phase::Decode, 2, 20, 0}, {Phase::Decode, 1, 20, 0}};
  const auto fed = [&](bool new_tokens, TokenPlace place) {
    return tokens_of(file_->spec(), cases, {.new_tokens = new_tokens}, place);
  };
  EXPECT_EQ(fed(false, {1, 0, 0}), fed(false, {2, 0, 0}));
  EXPECT_NE(fed(true, {1, 0, 0}), fed(true, {2, 0, 0}));
  EXPECT_NE(fed(false, {1, 0, 0}), fed(false, {1, 1, 0}));
  EXPECT_NE(fed(false, {1, 0, 0}), fed(false, {1, 0, 1}));
}

TEST_F(Measured, WhatIsReadFromTheDiskIsCountedByCaseAndBounds) {
  model::StreamedExperts& streamed = transformer_->streamed_experts();
  streamed.open({.room = streamed.room_for(3), .reads = 2});
  const std::vector<Case> cases{{Phase::Prefill, 1, 20, 0}, {Phase::Decode, 1, 4, 0}};
  const auto results = measure(*transformer_, *compute_, cases,
                               {.rounds = 2, .limit_memory = 4 << 20, .new_tokens = true, .disk_bandwidth = 1});
  store::StoreStatistics sum;
  for (const Result& result : results) {
    const store::StoreStatistics experts = result.experts();
    const double visited = result.rounds[0].work.experts + result.rounds[1].work.experts;
    EXPECT_EQ(static_cast<double>(experts.hits + experts.misses), visited);
    EXPECT_GT(experts.bytes_read, 0u);
    EXPECT_TRUE(bound_of(result.rounds[0].work, result.rounds[0].limits).is_disk());
    EXPECT_EQ(bound_of(result.rounds[0].work, result.rounds[0].limits).seconds(), result.rounds[0].work.disk_bytes);
    sum.bytes_read += experts.bytes_read;
  }
  EXPECT_LT(sum.bytes_read, transformer_->expert_statistics()->bytes_read);  // which knows the round that warmed up
}

TEST_F(Measured, WhatDoesNotFitTheMemoryIsRefused) {
  EXPECT_THROW(measure(*transformer_, *compute_, {{Phase::Decode, size_t{1} << 40, 4, 0}}, {}), Error);
}

TEST_F(Measured, WhatDoesNotFitTheContextIsRefused) {
  EXPECT_THROW(measure(*transformer_, *compute_, {{Phase::Decode, 1, 4, 61}}, {}), Error);
}

}  // namespace
}  // namespace moiety::bench
