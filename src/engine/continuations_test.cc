#include "engine/continuations.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::engine {
namespace {

using Ids = std::vector<int32_t>;

// Each sequence by itself in one pass, softmax written out.
double by_itself(model::Transformer& transformer, const Ids& sequence, size_t from) {
  model::KvCache cache(transformer.spec(), {sequence.size(), kernel::KvType::F32, sequence.size()});
  const model::Chunk chunk{&cache, sequence, sequence.size()};
  const Matrix<float> logits = transformer.forward({&chunk, 1});
  double score = 0;
  for (size_t t = from; t < sequence.size(); ++t) {
    double sum = 0;
    for (const float logit : logits.row(t - 1)) sum += std::exp(static_cast<double>(logit));
    score += logits.row(t - 1)[static_cast<size_t>(sequence[t])] - std::log(sum);
  }
  return score;
}

TEST(Continuations, ScoresAreThoseOfEachSequenceByItself) {
  test::TemporaryFolder folder;
  test::write_random_checkpoint(test::small_spec(), folder.path() / "model");
  const format::ModelFile file(folder.path() / "model");
  ThreadPool threads(1);
  model::Transformer transformer(file, {*kernel::available_kernels()[0], threads});

  const std::vector<Ids> sequences{{1, 5, 6, 7, 8, 9}, {1, 5, 6, 9}, {1, 5, 6, 7, 3}, {1, 5, 6}};
  const auto scores = score_sequences(transformer, sequences);
  ASSERT_EQ(scores.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(scores[i], by_itself(transformer, sequences[i], 3), 1e-4) << i;
  EXPECT_EQ(scores[3], 0) << "it is what all begin with";

  const std::vector<Ids> too_long{Ids(65, 4)};
  EXPECT_THROW(score_sequences(transformer, too_long), Error);
}

}  // namespace
}  // namespace moiety::engine
