#include "bench/work.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernel/kernels.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::bench {
namespace {

// What a token's matrices and its look at itself need: two operations a number that it meets.
double expected_operations(const spec::ModelSpec& spec) {
  double vectors = 0;
  for (const spec::Weight& weight : spec::weights_of(spec, false)) {
    const auto shape = spec::shape_of(spec, weight.role, weight.layer);
    // Where experts have biases all of them are visited.
    const int64_t copies = std::max(1, spec::experts_with(spec, weight.layer, weight.role));
    if (shape.size() == 1) vectors += static_cast<double>(shape[0] * copies);
  }
  const double attention = 4.0 * spec.num_layers * spec.attention.num_heads * spec.attention.head_dim;
  return 2 * (static_cast<double>(spec.active_parameters()) - vectors) + attention;
}

double counted_operations(const spec::ModelSpec& spec) {
  const test::TemporaryFolder folder;
  test::write_random_checkpoint(spec, folder.path());
  const format::ModelFile file(folder.path());
  ThreadPool threads(1);
  const kernel::Compute compute{*kernel::available_kernels()[0], threads};
  model::Transformer transformer(file, compute);
  model::KvCache cache(spec, 1);
  const int32_t token = 7;
  const model::Chunk chunk{&cache, {&token, 1}, 1};
  WorkCounter counter(file, compute);
  counter.add_step({&chunk, 1});
  transformer.forward({&chunk, 1}, [&](int layer, const moe::Routing& routing) { counter.add_routing(layer, routing); });
  const auto& operations = counter.work().operations;
  return std::accumulate(operations.begin(), operations.end(), 0.0);
}

TEST(Work, ATokenNeedsTwoOperationsForEachParameterThatItMeets) {
  spec::ModelSpec plain = test::small_spec(), odd = plain;
  plain.moe.shared_hidden = 24;
  odd.num_layers = 3;
  odd.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
  odd.dense_hidden = 40;
  odd.moe.experts_L = {2, 0, 4};
  odd.moe.iterations = 2;
  odd.moe.expert_width = 16;
  odd.attention.experts = spec::AttentionExperts{5, 2};
  spec::ModelSpec grus = test::small_spec_with_grus();
  grus.moe.router.experts_per_token = grus.moe.router.num_experts;
  for (const auto& spec : {plain, odd, grus}) EXPECT_EQ(counted_operations(spec), expected_operations(spec));
}

}  // namespace
}  // namespace moiety::bench
