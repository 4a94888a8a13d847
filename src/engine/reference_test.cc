#include "engine/reference.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::engine {
namespace {

struct OpenRandomModel {
  OpenRandomModel(const fs::path& folder, uint64_t seed) {
    test::write_random_checkpoint(test::small_spec(), folder, seed);
    file.emplace(folder);
    transformer.emplace(*file, compute);
  }
  Matrix<float> logits(std::span<const int32_t> inputs) {
    model::KvCache cache(transformer->spec(), inputs.size());
    const model::Chunk chunk{&cache, inputs, inputs.size()};
    return transformer->forward({&chunk, 1});
  }

  ThreadPool threads{1};
  kernel::Compute compute{*kernel::available_kernels()[0], threads};
  std::optional<format::ModelFile> file;
  std::optional<model::Transformer> transformer;
};

class ReferenceTest : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  OpenRandomModel model_{folder_.path() / "model", 1}, other_{folder_.path() / "other", 2};
  const std::vector<int32_t> tokens_ = {1, 5, 9, 13, 21, 3};
  const Matrix<float> logits_ = model_.logits(std::span(tokens_).first(5));
  const Window window_{tokens_, 2, logits_.view()};  // tokens 2 to 5 are scored
};

TEST_F(ReferenceTest, AModelDivergesFromItselfNowhere) {
  const Divergence d = compare(window_, model_reference(*model_.transformer, kernel::KvType::F32), model_.threads);
  EXPECT_EQ(d.kl, (std::vector<double>(4, 0.0)));
  EXPECT_EQ(d.top_agreement(), 1);
  EXPECT_EQ(d.perplexity(), d.reference_perplexity());
}

TEST_F(ReferenceTest, WhatWasSavedIsAsGoodAsTheModel) {
  LogitsWriter writer(folder_.path() / "saved", model_.file->spec().vocab_size, 6);
  const Window others{tokens_, 2, {}};
  const Matrix<float> log_p = model_reference(*other_.transformer, kernel::KvType::F32)(others);
  for (size_t i = 0; i < log_p.rows(); ++i) writer.add(log_p.row(i), tokens_[2 + i]);
  writer.commit();

  const Divergence live = compare(window_, model_reference(*other_.transformer, kernel::KvType::F32), model_.threads);
  const Divergence saved = compare(window_, saved_reference(SavedLogits(folder_.path() / "saved")), model_.threads);
  EXPECT_GT(live.mean(), 0.1);
  EXPECT_NEAR(saved.mean(), live.mean(), 1e-4);
  EXPECT_EQ(saved.same_top, live.same_top);
}

TEST_F(ReferenceTest, SavedPredictionsOfAnotherTextAreRefused) {
  LogitsWriter writer(folder_.path() / "saved", model_.file->spec().vocab_size, 6);
  const Matrix<float> log_p = log_probabilities(window_, model_.threads);
  for (size_t i = 0; i < 3; ++i) writer.add(log_p.row(i), tokens_[2 + i]);
  writer.commit();
  const SavedLogits saved(folder_.path() / "saved");
  EXPECT_THROW(compare(window_, saved_reference(SavedLogits(saved.path())), model_.threads), Error);  // one too few
  const Window shifted{tokens_, 3, logits_.view()};
  EXPECT_THROW(compare(shifted, saved_reference(SavedLogits(saved.path())), model_.threads), Error);
}

}  // namespace
}  // namespace moiety::engine
