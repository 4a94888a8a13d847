// The logits of a sequence are the same bits whatever else is in the batch, however its tokens were cut into chunks, however
// many threads compute: tried by chance, for every kind of attention, cache, arithmetic and instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/random.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/random_model.h"
#include "support/routers.h"

namespace moiety::model {
namespace {

using kernel::Arithmetic;
using kernel::KvType;
using test::fs::path;

constexpr KvType kTypes[] = {KvType::F32, KvType::F16, KvType::BF16, KvType::Q8};
constexpr size_t kMostThreads = 4;

// A sequence of random tokens, of which some are its prompt, and its logits when it is computed alone and at once.
struct Sequence {
  std::vector<int32_t> tokens;
  size_t prompt = 0;
  Matrix<float> logits_TV;
};

// A model in one arithmetic on every number of threads.
class Model {
 public:
  Model(const format::ModelFile& file, const kernel::Kernels& kernels, Arithmetic arithmetic) : file_(file) {
    for (size_t threads = 1; threads <= kMostThreads; ++threads) {
      pools_.push_back(std::make_unique<ThreadPool>(static_cast<int>(threads)));
      computes_.push_back(std::make_unique<kernel::Compute>(kernel::Compute{kernels, *pools_.back(), arithmetic}));
      transformers_.push_back(std::make_unique<Transformer>(file, *computes_.back()));
    }
  }

  KvCache cache(const Sequence& s, KvType type) const { return {file_.spec(), {capacity_, type, s.prompt}}; }
  Matrix<float> forward(std::span<const Chunk> chunks, size_t threads) {
    return transformers_[threads - 1]->forward(chunks);
  }

  std::vector<Sequence> sequences(std::span<const size_t> lengths, KvType type, Random& random) {
    capacity_ = *std::ranges::max_element(lengths);
    std::vector<Sequence> out;
    for (const size_t length : lengths) {
      Sequence& s = out.emplace_back();
      for (size_t i = 0; i < length; ++i) {
        s.tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(file_.spec().vocab_size))));
      }
      s.prompt = random.below(length + 1);
      KvCache kv = cache(s, type);
      const Chunk chunk{&kv, s.tokens, s.tokens.size()};
      s.logits_TV = forward({&chunk, 1}, 1);
    }
    return out;
  }

 private:
  const format::ModelFile& file_;
  size_t capacity_ = 0;
  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::vector<std::unique_ptr<kernel::Compute>> computes_;
  std::vector<std::unique_ptr<Transformer>> transformers_;
};

// Feeds all sequences to their ends, at each step some of them in any order, some tokens each, on some threads.
void expect_the_same_when_cut(Model& model, const std::vector<Sequence>& sequences, KvType type, size_t most_tokens,
                              Random& random) {
  std::vector<KvCache> caches;
  for (const Sequence& s : sequences) caches.push_back(model.cache(s, type));
  std::vector<size_t> left(sequences.size());
  for (size_t i = 0; i < left.size(); ++i) left[i] = i;

  while (!left.empty()) {
    for (size_t i = left.size(); i-- > 1;) std::swap(left[i], left[random.below(i + 1)]);
    std::vector<size_t> taken(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(1 + random.below(left.size())));
    std::vector<Chunk> chunks;
    for (const size_t i : taken) {
      const auto rest = std::span(sequences[i].tokens).subspan(caches[i].length());
      const size_t count = random.below(3) == 0 ? 1 : 1 + random.below(std::min(rest.size(), most_tokens));
      chunks.push_back({&caches[i], rest.first(count), count});
    }
    const Matrix<float> logits = model.forward(chunks, 1 + random.below(kMostThreads));

    size_t row = 0;
    for (size_t c = 0; c < chunks.size(); ++c) {
      const Sequence& s = sequences[taken[c]];
      const size_t first = caches[taken[c]].length() - chunks[c].tokens.size();
      for (size_t t = 0; t < chunks[c].tokens.size(); ++t, ++row) {
        const auto got = logits.row(row), wanted = s.logits_TV.row(first + t);
        ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0)
            << "position " << first + t << " of " << s.tokens.size() << ", prompt " << s.prompt << ", in a batch of "
            << chunks.size() << ", cache type " << static_cast<int>(type);
      }
    }
    std::erase_if(left, [&](size_t i) { return caches[i].length() == sequences[i].tokens.size(); });
  }
}

class Invariance : public testing::TestWithParam<std::tuple<const kernel::Kernels*, Arithmetic>> {
 protected:
  const kernel::Kernels& kernels() const { return *std::get<0>(GetParam()); }
  Arithmetic arithmetic() const { return std::get<1>(GetParam()); }
  bool is_scalar() const { return kernels().name == "scalar"; }

  void try_all_caches(const path& file_path, std::span<const size_t> lengths, int trials, size_t most_tokens) {
    const format::ModelFile file(file_path);
    Model model(file, kernels(), arithmetic());
    Random random(5);
    for (const KvType type : kTypes) {
      const std::vector<Sequence> sequences = model.sequences(lengths, type, random);
      for (int trial = 0; trial < trials; ++trial) {
        expect_the_same_when_cut(model, sequences, type, most_tokens, random);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
};

// Families with grouped heads, latents, windows and sinks, norms of queries and keys, every kind of weight.
TEST_P(Invariance, Fixtures) {
  for (const path model : {"mixtral/bf16", "olmoe/bf16", "qwen3_moe/bf16", "qwen2_moe/f32", "deepseek_v2/bf16", "deepseek_v3/bf16",
                           "gpt_oss/bf16", "gpt_oss_mxfp4/mxfp4", "granitemoe/bf16", "phimoe/bf16", "qwen3/bf16",
                           "qwen3_moe_fp8/fp8", "mixtral/gguf/mixtral-Q8_0.gguf", "mixtral_k256/gguf/mixtral_k256-Q4_K_M.gguf",
                           "qwen3_moe_k256/gguf/qwen3_moe_k256-Q6_K.gguf"}) {
    const auto found = test::fixture("models" / model);
    if (!found) continue;
    SCOPED_TRACE(model.string());
    const size_t lengths[] = {3, 17, is_scalar() ? 21u : 50u};
    try_all_caches(*found, lengths, is_scalar() ? 1 : 3, 24);
    if (HasFatalFailure()) return;
  }
}

// What gates hand from layer to layer is a token's own.
TEST_P(Invariance, Gates) {
  for (const spec::Gate gate : test::kGates) {
    SCOPED_TRACE(testing::Message() << "gate " << static_cast<int>(gate));
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(test::small_spec(gate), folder.path() / "model");
    const size_t lengths[] = {3, 17, 40};
    try_all_caches(folder.path() / "model", lengths, 1, 24);
    if (HasFatalFailure()) return;
  }
}

// Long enough for several blocks and pieces of the fold over positions.
TEST_P(Invariance, LongSequences) {
  spec::ModelSpec grouped = test::small_spec(), windowed = grouped, latent = grouped;
  windowed.attention.sliding_window = 300;
  windowed.attention.windowed = {true, false};
  windowed.attention.sinks = true;
  latent.attention.num_kv_heads = latent.attention.num_heads;
  latent.attention.latent = spec::LatentSpec{.kv_rank = 16, .plain_dim = 8, .rope_dim = 4, .value_dim = 8};
  latent.attention.head_dim = 12;
  for (const auto& spec : {grouped, windowed, latent}) {
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(spec, folder.path() / "model");
    const size_t lengths[] = {40, is_scalar() ? 300u : 1100u};
    try_all_caches(folder.path() / "model", lengths, 1, 200);
    if (HasFatalFailure()) return;
  }
}

// Every stage of a router, experts that cost nothing and what routers hand on among them.
TEST_P(Invariance, Routers) {
  for (const test::RouterCase& router : test::kRouters) {
    SCOPED_TRACE(router.name);
    spec::ModelSpec spec = test::small_spec();
    router.change(spec.moe.router);
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(spec, folder.path() / "model");
    const size_t lengths[] = {3, 21};
    try_all_caches(folder.path() / "model", lengths, 1, 9);
    if (HasFatalFailure()) return;
  }
}

// Blocks of other shapes: what a layer hands to the next, or an iteration to the next, is the token's own; what experts keep, its
// sequence's.
TEST_P(Invariance, BlockShapes) {
  spec::ModelSpec chained = test::small_spec(), mixed = chained;
  chained.num_layers = mixed.num_layers = 3;
  chained.feed_forward.assign(3, spec::FeedForward::Moe);
  chained.moe.experts_L = {2, 3, 4};
  chained.moe.iterations = 2;
  chained.moe.expert_width = 16;
  chained.moe.ternary_experts = true;
  chained.moe.shared_hidden = 24;
  chained.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.5f};
  chained.attention.experts = spec::AttentionExperts{5, 2};
  mixed.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
  mixed.dense_hidden = 40;
  mixed.moe.router.experts_per_token = 1;
  mixed.moe.shared_hidden = 24;
  mixed.moe.shared_mix = true;
  mixed.moe.momentum = {.kind = spec::Momentum::Adam, .decay = 0.6f, .step = 0.2f, .eps = 1e-4f};
  spec::ModelSpec stick = test::small_spec();
  stick.attention.num_heads = 8;
  stick.attention.weigh = spec::AttentionWeigh::StickBreaking;
  stick.attention.experts = spec::AttentionExperts{5, 2};
  stick.attention.output_bias = stick.moe.output_bias = true;
  for (const auto& spec : {chained, mixed, stick, test::small_spec_with_grus()}) {
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(spec, folder.path() / "model");
    const size_t lengths[] = {3, 17, is_scalar() ? 21u : 50u};
    try_all_caches(folder.path() / "model", lengths, is_scalar() ? 1 : 3, 24);
    if (HasFatalFailure()) return;
  }
}

// Expanded and absorbed, which is why a cache knows the prompt.
TEST(LatentAttention, ItsTwoWaysDifferByRoundingOnly) {
  for (const path model : {"deepseek_v2/bf16", "deepseek_v3/bf16"}) {
    const auto found = test::fixture("models" / model);
    if (!found) continue;
    const format::ModelFile file(*found);
    Model fast(file, *kernel::available_kernels()[0], Arithmetic::Fast);
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 40; ++i) tokens.push_back(i * 7 + 3);
    const auto logits = [&](size_t prompt) {
      KvCache cache(file.spec(), {tokens.size(), KvType::BF16, prompt});
      const Chunk chunk{&cache, tokens, tokens.size()};
      return fast.forward({&chunk, 1}, 2);
    };
    const Matrix<float> absorbed = logits(0), expanded = logits(tokens.size());
    double difference = 0;
    for (size_t i = 0; i < absorbed.flat().size(); ++i) difference += std::abs(absorbed.flat()[i] - expanded.flat()[i]);
    difference /= static_cast<double>(absorbed.flat().size());
    EXPECT_GT(difference, 0);
    EXPECT_LT(difference, 0.05) << model;  // logits have a standard deviation of about 2.5
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Invariance,
                         testing::Combine(testing::ValuesIn(kernel::available_kernels().begin(),
                                                            kernel::available_kernels().end()),
                                          testing::Values(Arithmetic::Exact, Arithmetic::Fast)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param)->name) +
                                  (std::get<1>(param.param) == Arithmetic::Exact ? "_exact" : "_fast");
                         });

}  // namespace
}  // namespace moiety::model
