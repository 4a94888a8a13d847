#include "bench/skew.h"

#include <gtest/gtest.h>

#include "bench/tokens.h"
#include "format/synthetic.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::bench {
namespace {

TEST(Skew, IsCountedByHand) {
  SkewCounter counter(2, 3);
  counter.add_routing(1, {3, {0, 2, 4}, {0, 1, 0, 1}, {}});
  counter.add_routing(1, {3, {0, 2}, {2, 0}, {}});
  const Skew skew = counter.skew_of(1);
  EXPECT_DOUBLE_EQ(skew.repeats, 3.0 / 4);                             // both of the second token's experts, one of the third's
  EXPECT_DOUBLE_EQ(skew.repeats_by_chance, (9 + 4 + 1) / (3.0 * 6));  // 3, 2 and 1 visits
  EXPECT_NEAR(skew.exponent, std::log(2.0) / std::log(3.0 / 2), 1e-12);
}

// Routing of a small synthetic model along 4000 tokens, a layer each.
std::vector<Skew> measured(format::SyntheticRouting routing) {
  const test::TemporaryFolder folder;
  spec::ModelSpec spec = test::small_spec();
  spec.family = "qwen3_moe";
  spec.width = spec.moe.expert_hidden = 256;
  spec.vocab_size = 2048;
  spec.max_positions = 4096;
  spec.attention.qk_norm = spec::QkNorm::PerHead;
  spec.moe.router = {.num_experts = 32, .experts_per_token = 4};
  format::write_synthetic(folder.path() / "m.gguf", spec, *format::mix_named("Q4_K_M"), routing);

  const format::ModelFile file(folder.path() / "m.gguf");
  ThreadPool threads(2);
  model::Transformer transformer(file, {*kernel::available_kernels()[0], threads, kernel::Arithmetic::Fast});
  SkewCounter counter(spec.num_layers, spec.moe.router.num_experts);
  for (size_t sequence = 0; sequence < 40; ++sequence) {
    const auto tokens = draw_tokens(TokenKind::Topics, spec.vocab_size, {0, 0, sequence}, 100);
    model::KvCache cache(spec, tokens.size());
    const model::Chunk chunk{&cache, tokens};
    transformer.forward({&chunk, 1},
                        [&](int layer, const moe::Routing& found) { counter.add_routing(layer, found); });
  }
  std::vector<Skew> skews;
  for (int layer = 0; layer < spec.num_layers; ++layer) skews.push_back(counter.skew_of(layer));
  return skews;
}

TEST(Skew, OfASkewedModelIsZipfsAndNeighboursShareMoreThanChance) {
  for (const Skew& skew : measured(format::SyntheticRouting::Skewed)) {
    EXPECT_GT(skew.exponent, 0.8);
    EXPECT_LT(skew.exponent, 1.2);
    EXPECT_GT(skew.repeats, 1.3 * skew.repeats_by_chance);
  }
}

TEST(Skew, OfAUniformModelIsSmall) {
  for (const Skew& skew : measured(format::SyntheticRouting::Uniform)) {
    EXPECT_LT(skew.exponent, 0.5);
    EXPECT_LT(skew.repeats_by_chance, 1.2 * 4 / 32);
  }
}

}  // namespace
}  // namespace moiety::bench
