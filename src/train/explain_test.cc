#include "train/explain.h"

#include <gtest/gtest.h>

#include "train/run_record.h"

namespace moiety::train {
namespace {

spec::ModelSpec small_model() {
  TrainConfig config;
  config.model.layers = 3;
  config.model.width = 64;
  config.model.heads = config.model.kv_heads = 4;
  config.model.head_dim = 16;
  config.model.experts = 4;
  config.model.experts_per_token = 2;
  config.model.expert_hidden = 32;
  config.model.shared_hidden = 48;
  return model_spec(config, 512, 0);
}

// What products take is what run.json says of a token, but for the embedding and norms, which are no products.
TEST(Explain, ProductsAreTheWorkOfTheModel) {
  const spec::ModelSpec spec = small_model();
  constexpr size_t kSequences = 4, kLength = 63;
  double flops = 0;
  for (const ProductShape& shape : products_of(spec, kSequences, kLength)) flops += shape.flops();
  EXPECT_NEAR(flops / (training_flops_per_token(spec, kLength) * kSequences * kLength), 1, 0.02);
}

TEST(Explain, ALinkIsALineThroughWhatWasMeasured) {
  const LinkLaw law = law_through(1000, 0.002, 1'001'000, 0.012);
  EXPECT_NEAR(law.seconds(1000), 0.002, 1e-12);
  EXPECT_NEAR(law.seconds(1'001'000), 0.012, 1e-12);
  EXPECT_NEAR(law.each_byte, 1e-8, 1e-15);
  EXPECT_EQ(law_through(1000, 0.002, 1'001'000, 0.001).each_byte, 0);  // noise is no speed
}

TEST(Explain, SaysWhatStepsTookBesideWhatTheyShould) {
  Explainer explainer(small_model(), GemmType::F32, 1, 16, {}, nullptr);
  Activity activity;
  int steps = 1;
  while (!explainer.step_ended(activity, 0.5)) ++steps;
  EXPECT_EQ(steps, 10);
  const std::string text = explainer.text();
  for (const char* word : {"expert up", "8 x 64 x 64", "GFLOP/s", "predicted", "together"}) EXPECT_NE(text.find(word), std::string::npos) << text;
  EXPECT_EQ(text.find("all-gather"), std::string::npos);  // alone
}

}  // namespace
}  // namespace moiety::train
