#include "engine/generate.h"

#include <gtest/gtest.h>

#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::engine {
namespace {

using Ids = std::vector<int32_t>;

class Generate : public testing::Test {
 protected:
  void SetUp() override {
    test::write_random_checkpoint(test::small_spec(), folder_.path() / "model");
    file_.emplace(folder_.path() / "model");
    compute_.emplace(kernel::Compute{*kernel::available_kernels()[0], threads_});
    transformer_.emplace(*file_, *compute_);
  }

  test::TemporaryFolder folder_;
  ThreadPool threads_{1};
  std::optional<format::ModelFile> file_;
  std::optional<kernel::Compute> compute_;
  std::optional<model::Transformer> transformer_;
  GenerateOptions options_{.max_new_tokens = 6, .sampling = {.temperature = 0}};
};

TEST_F(Generate, APromptThatGoesOnFromTheLastIsComputedOnlyFromThereAndGivesTheSame) {
  PromptCache cache;
  const Ids first = {1, 5, 6, 7};
  const Generated one = generate(*transformer_, first, options_, {}, &cache);
  EXPECT_EQ(one.reused_tokens, 0u);

  Ids longer = first;
  longer.insert(longer.end(), one.tokens.begin(), one.tokens.end());
  longer.insert(longer.end(), {9, 10});
  const Generated with = generate(*transformer_, longer, options_, {}, &cache), without = generate(*transformer_, longer, options_);
  EXPECT_EQ(with.tokens, without.tokens);

  // One that differs early, and the very same again, of which the last token is computed for its logits.
  const Generated other = generate(*transformer_, Ids{1, 5, 8}, options_, {}, &cache);
  EXPECT_EQ(other.reused_tokens, 2u);
  EXPECT_EQ(other.tokens, generate(*transformer_, Ids{1, 5, 8}, options_).tokens);
  const Generated again = generate(*transformer_, Ids{1, 5, 8}, options_, {}, &cache);
  EXPECT_EQ(again.reused_tokens, 2u);
  EXPECT_EQ(again.tokens, other.tokens);
}

TEST_F(Generate, RecordsEachTokenThatIsComputedOnce) {
  const fs::path path = folder_.path() / "trace";
  {
    trace::TraceWriter writer(path, trace::header_of(transformer_->spec(), "small"));
    trace::TraceRecorder recorder(writer);
    options_.trace = &recorder;
    PromptCache cache;
    generate(*transformer_, Ids{1, 5, 6, 7}, options_, {}, &cache);
    generate(*transformer_, Ids{1, 5, 8}, options_, {}, &cache);
  }
  trace::TraceReader reader(path);
  std::vector<trace::Part> parts;
  for (trace::StepTrace step; reader.next(step);) {
    ASSERT_EQ(step.parts.size(), 1u);
    ASSERT_EQ(step.by_sparse_layer.size(), 2u);
    EXPECT_EQ(step.by_sparse_layer[1].num_visits(), 2 * step.parts[0].tokens);
    EXPECT_EQ(step.by_sparse_layer[1].weights_N.size(), step.by_sparse_layer[1].experts_N.size());
    parts.push_back(step.parts[0]);
  }
  // The last of the six new tokens is not computed; of the second prompt two are there.
  const std::vector<trace::Part> expected = {{0, 0, 4}, {0, 4, 1}, {0, 5, 1}, {0, 6, 1}, {0, 7, 1}, {0, 8, 1},
                                             {1, 2, 1}, {1, 3, 1}, {1, 4, 1}, {1, 5, 1}, {1, 6, 1}, {1, 7, 1}};
  EXPECT_EQ(parts, expected);
}

// Latent attention computes a prompt otherwise than an answer, so that an answer that becomes a prompt is computed again.
TEST_F(Generate, WithLatentAttentionToo) {
  spec::ModelSpec spec = test::small_spec();
  spec.attention.num_kv_heads = spec.attention.num_heads;
  spec.attention.head_dim = 12;
  spec.attention.latent = spec::LatentSpec{.kv_rank = 16, .plain_dim = 8, .rope_dim = 4, .value_dim = 8};
  test::write_random_checkpoint(spec, folder_.path() / "latent");
  const format::ModelFile file(folder_.path() / "latent");
  const kernel::Compute fast{*kernel::available_kernels()[0], threads_, kernel::Arithmetic::Fast};
  model::Transformer transformer(file, fast);
  options_.kv = kernel::KvType::BF16;

  PromptCache cache;
  cache.cache.emplace(spec, model::KvOptions{.capacity = 64, .type = options_.kv});
  Ids prompt = {1, 5, 6, 7};
  for (const size_t reused : {0u, 4u, 12u}) {
    const Generated with = generate(transformer, prompt, options_, {}, &cache), without = generate(transformer, prompt, options_);
    EXPECT_EQ(with.reused_tokens, reused);
    EXPECT_EQ(with.tokens, without.tokens);
    prompt.insert(prompt.end(), with.tokens.begin(), with.tokens.end());
    prompt.insert(prompt.end(), {9, 10});
  }
}

TEST_F(Generate, StopsAtAnyOfTheEndTokensAndSaysWhich) {
  const Generated free = generate(*transformer_, Ids{1, 5, 6}, options_);
  options_.stop_tokens = {49, free.tokens[2]};
  const Generated stopped = generate(*transformer_, Ids{1, 5, 6}, options_);
  EXPECT_EQ(stopped.stop, Generated::Stop::StopToken);
  EXPECT_EQ(stopped.stop_token, free.tokens[2]);
  EXPECT_LE(stopped.tokens.size(), 2u);
}

}  // namespace
}  // namespace moiety::engine
