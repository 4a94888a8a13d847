#include "model/input_statistics.h"

#include <gtest/gtest.h>

#include "format/elements.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::model {
namespace {

struct Watched {
  test::TemporaryFolder folder;
  ThreadPool threads{2};
  std::optional<format::ModelFile> file;
  std::optional<InputStatistics> statistics;
  std::vector<moe::Routing> routings;  // by layer

  explicit Watched(const spec::ModelSpec& spec, std::span<const int32_t> tokens) {
    test::write_random_checkpoint(spec, folder.path());
    file.emplace(folder.path());
    statistics.emplace(*file);
    const kernel::Compute compute{*kernel::available_kernels()[0], threads, kernel::Arithmetic::Exact, nullptr,
                                  statistics->observer()};
    Transformer transformer(*file, compute);
    KvCache cache(spec, tokens.size());
    const Chunk chunk{&cache, tokens, tokens.size()};
    transformer.forward({&chunk, 1},
                        [&](int, const moe::Routing& routing) { routings.push_back(routing); });
  }
  const format::InputSums& sums(const std::string& name) const { return statistics->importance().tensors.at(name); }
};

const std::vector<int32_t> kTokens = {1, 7, 30, 12, 9};

TEST(InputStatistics, EveryExpertCountsItsOwnVisits) {
  const Watched w(test::small_spec(), kTokens);
  ASSERT_EQ(w.routings.size(), 2u);
  for (size_t layer = 0; layer < 2; ++layer) {
    std::vector<double> visits(4);
    for (const int expert : w.routings[layer].experts_N) ++visits[static_cast<size_t>(expert)];
    for (const char* name : {"gate", "up", "down"}) {
      EXPECT_EQ(w.sums(fmt::format("blk.{}.ffn_{}_exps.weight", layer, name)).counts, visits);
    }
  }
}

// The first layer's queries see the normed embeddings, which a few lines can compute.
TEST(InputStatistics, SumsAreThoseOfTheSquaresOfTheInputs) {
  const spec::ModelSpec spec = test::small_spec();
  const Watched w(spec, kTokens);
  const auto table = format::to_floats(w.file->weight({spec::Role::Embedding}));
  const auto norm = format::to_floats(w.file->weight({spec::Role::AttentionNorm, 0}));
  const size_t width = static_cast<size_t>(spec.width);
  std::vector<double> wanted(width);
  for (const int32_t token : kTokens) {
    const float* x = &table[static_cast<size_t>(token) * width];
    double mean = 0;
    for (size_t d = 0; d < width; ++d) mean += double{x[d]} * x[d] / static_cast<double>(width);
    for (size_t d = 0; d < width; ++d) wanted[d] += std::pow(x[d] * norm[d], 2) / (mean + spec.norm_eps);
  }
  for (const char* name : {"attn_q", "attn_k", "attn_v"}) {
    const auto& sums = w.sums(fmt::format("blk.0.{}.weight", name));
    EXPECT_EQ(sums.counts, std::vector<double>{5});
    for (size_t d = 0; d < width; ++d) EXPECT_NEAR(sums.squares[d], wanted[d], 1e-4 * wanted[d]) << name << d;
  }
}

TEST(InputStatistics, TheHeadIsTheEmbeddingWhereTheyAreTied) {
  spec::ModelSpec spec = test::small_spec();
  EXPECT_EQ(Watched(spec, kTokens).sums("output.weight").counts, std::vector<double>{5});
  spec.tied_embeddings = true;
  const Watched tied(spec, kTokens);
  EXPECT_EQ(tied.sums("token_embd.weight").counts, std::vector<double>{5});
  EXPECT_FALSE(tied.statistics->importance().tensors.contains("output.weight"));
}

TEST(InputStatistics, RoutersAndVectorsAreNotWatched) {
  const Watched w(test::small_spec(), kTokens);
  for (const auto& [name, sums] : w.statistics->importance().tensors) {
    EXPECT_EQ(name.find("norm"), name.npos);
    EXPECT_EQ(name.find("ffn_gate_inp"), name.npos);
  }
}

}  // namespace
}  // namespace moiety::model
