#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "train/parallel.h"
#include "train/torch.h"

namespace moiety::train {
namespace {

TEST(Optimizer, IsTorchsAdamWWithClipping) {
  const TrainConfig config = parse_config("", "c", {"model.width=16", "model.layers=1", "balance.bias_rate=0.1"});
  const spec::ModelSpec spec = model_spec(config, 300, 0);
  Weights weights(spec);
  weights.initialise(spec, 1);
  const TrainConfig::Optimizer settings{.weight_decay = 0.1, .clip = 0.5};
  Optimizer optimizer(settings, weights);

  std::vector<torch::Tensor> matrices, others, all;
  std::vector<std::pair<size_t, size_t>> places;
  for (const Weights::Entry& entry : weights.entries()) {
    if (entry.weight.role == spec::Role::SelectionBias) continue;
    torch::Tensor leaf = torch::from_blob(weights.values().data() + entry.begin, {static_cast<int64_t>(entry.size)})
                             .clone().set_requires_grad(true);
    (entry.is_matrix() ? matrices : others).push_back(leaf);
    all.push_back(leaf);
    places.emplace_back(entry.begin, entry.size);
  }
  const auto options = [](double decay) {
    auto o = std::make_unique<torch::optim::AdamWOptions>(1e-2);
    o->betas({0.9, 0.95}).eps(1e-8).weight_decay(decay);
    return o;
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(matrices, options(0.1));
  groups.emplace_back(others, options(0));
  torch::optim::AdamW theirs(groups, *options(0));

  Random random(3);
  for (int64_t step = 0; step < 4; ++step) {
    for (size_t i = 0; i < all.size(); ++i) {
      torch::Tensor gradient = torch::empty_like(all[i]);
      for (size_t k = 0; k < places[i].second; ++k) {
        const float value = static_cast<float>(random.normal() * (step == 3 ? 1e-5 : 1));  // the last isn't clipped
        gradient.data_ptr<float>()[k] = value;
        weights.gradients()[places[i].first + k] = value;
      }
      all[i].mutable_grad() = gradient;
    }
    const double their_norm = torch::nn::utils::clip_grad_norm_(all, 0.5);
    theirs.step();
    const double norm = optimizer.step(step, 1e-2);
    EXPECT_NEAR(norm, their_norm, 1e-5 * their_norm);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t k = 0; k < places[i].second; ++k) {
      ASSERT_NEAR(weights.values()[places[i].first + k], all[i].data_ptr<float>()[k], 2e-6);
    }
  }
  // Used up
  for (const float gradient : weights.gradients()) ASSERT_EQ(gradient, 0.0f);
  // No gradient moves the selection bias.
  for (const float bias : weights.vector(spec::Role::SelectionBias, 0).value) EXPECT_EQ(bias, 0.0f);
}

TEST(Weights, InitialValuesDoNotDependOnTheNumberOfThreads) {
  const spec::ModelSpec spec = model_spec(parse_config("", "c", {}), 300, 0);
  const int threads = omp_get_max_threads();
  Weights one(spec), four(spec);
  omp_set_num_threads(1);
  one.initialise(spec, 9);
  omp_set_num_threads(4);
  four.initialise(spec, 9);
  omp_set_num_threads(threads);
  EXPECT_TRUE(std::ranges::equal(one.values(), four.values()));
}

}  // namespace
}  // namespace moiety::train
