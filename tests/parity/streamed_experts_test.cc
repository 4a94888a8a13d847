// A model whose experts are read when tokens choose them computes the same bits as one that has them all, whatever the
// number of slots, the policy, the threads, the arithmetic and the way of reading.
#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"
#include "model/transformer.h"
#include "support/fixtures.h"

namespace moiety::model {
namespace {

using test::fs::path;

struct Loaded {
  Loaded(const path& file_path, int num_threads, kernel::Arithmetic arithmetic)
      : file(file_path), threads(num_threads), compute{*kernel::available_kernels()[0], threads, arithmetic}, transformer(file, compute) {}
  format::ModelFile file;
  ThreadPool threads;
  kernel::Compute compute;
  Transformer transformer;

  // Logits of all tokens, fed in chunks of the sizes given and then one by one.
  std::vector<float> logits(std::span<const int32_t> tokens, std::span<const size_t> chunks) {
    KvCache cache(file.spec(), {tokens.size(), kernel::KvType::F32, tokens.size() / 2});
    std::vector<float> all;
    for (size_t at = 0, c = 0; at < tokens.size(); ++c) {
      const size_t size = std::min(c < chunks.size() ? chunks[c] : 1, tokens.size() - at);
      const Chunk chunk{&cache, tokens.subspan(at, size)};
      const Matrix<float> logits = transformer.forward({&chunk, 1}, Transformer::LogitsOf::AllTokens);
      const auto values = logits.flat();
      all.insert(all.end(), values.begin(), values.end());
      at += size;
    }
    return all;
  }
};

struct Case {
  const char* name;
  const char* file;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Streamed : public testing::TestWithParam<Case> {};

TEST_P(Streamed, TheSameBitsWithAnyNumberOfSlots) {
  const auto file = test::fixture(path("models") / GetParam().file);
  if (!file) GTEST_SKIP() << "the whole fixture set is not here: " << GetParam().file;
  Random random(7);
  for (const kernel::Arithmetic arithmetic : {kernel::Arithmetic::Fast, kernel::Arithmetic::Exact}) {
    Loaded resident(*file, 1, arithmetic);
    std::vector<int32_t> tokens(24);
    for (int32_t& token : tokens) {
      token = static_cast<int32_t>(random.below(static_cast<uint64_t>(resident.file.spec().vocab_size)));
    }
    const auto expected = resident.logits(tokens, std::array<size_t, 2>{9, 7});
    for (int attempt = 0; attempt < 8; ++attempt) {
      Loaded streamed(*file, 1 + static_cast<int>(random.below(3)), arithmetic);
      StreamedExperts& experts = streamed.transformer.streamed_experts();
      streamed.transformer.pin_dense();
      const size_t reads = 1 + random.below(4);
      StreamedExperts::Options options{.slots = random.below(experts.count()), .reads = reads};
      options.policy = std::array{store::CachePolicy::Lru, store::CachePolicy::Blend, store::CachePolicy::Auto}[random.below(3)];
      options.predictor = std::array{store::Predictor::None, store::Predictor::Previous, store::Predictor::Path,
                                     store::Predictor::Caller}[random.below(4)];
      options.engine = random.below(2) == 0 ? ReadEngine::Best : ReadEngine::Threads;
      experts.open(options);
      experts.store().measure_read_rate(1e-4);
      const auto found = streamed.logits(tokens, std::array<size_t, 3>{1 + random.below(12), 1 + random.below(5), 2});
      ASSERT_EQ(found.size(), expected.size());
      ASSERT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0)
          << options.slots << " slots, " << reads << " reads, " << streamed.threads.size() << " threads";
      EXPECT_GT(experts.store().statistics().misses, 0u);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Streamed,
                         testing::Values(Case{"mixtral_f32", "mixtral/f32"}, Case{"olmoe_bf16", "olmoe/bf16"},
                                         Case{"mixtral_Q8_0", "mixtral/gguf/mixtral-Q8_0.gguf"},
                                         Case{"qwen3_Q4_K_M", "qwen3_moe_k256/gguf/qwen3_moe_k256-Q4_K_M.gguf"},
                                         Case{"qwen2_shared", "qwen2_moe/bf16"}, Case{"deepseek_v3", "deepseek_v3/bf16"},
                                         Case{"fp8", "qwen3_moe_fp8/fp8"}, Case{"gpt_oss_mxfp4", "gpt_oss_mxfp4/mxfp4"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace moiety::model
