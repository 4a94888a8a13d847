// A model whose experts are read when tokens choose them computes the same bits as one that has them all, whatever the
// memory, the policy, the threads, the arithmetic and the way of reading.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/random.h"
#include "model/step_memory.h"
#include "model/transformer.h"
#include "moe/gate.h"
#include "support/fixtures.h"
#include "support/packed_file.h"
#include "support/random_model.h"
#include "support/routers.h"

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
      const Chunk chunk{&cache, tokens.subspan(at, size), size};
      const Matrix<float> logits = transformer.forward({&chunk, 1});
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

const std::vector<format::TypeWish> kAllQ8_0 = {{"ffn", std::regex("ffn"), spec::ElementType::Q8_0}};

class Streamed : public testing::TestWithParam<Case> {};

std::vector<int32_t> some_tokens(const spec::ModelSpec& spec, Random& random) {
  std::vector<int32_t> tokens(24);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size)));
  return tokens;
}

// Room, reads, policy, predictor, way of reading and how much a step may hold, by chance.
StreamedExperts::Options some_options(const Transformer& transformer, const StreamedExperts& experts, Random& random) {
  using store::CachePolicy, store::Predictor;
  StreamedExperts::Options options{.room = random.below(experts.bytes()), .reads = 1 + random.below(4)};
  options.policy = std::array{CachePolicy::Lru, CachePolicy::Lfu, CachePolicy::Weight, CachePolicy::Distance, CachePolicy::Blend,
                              CachePolicy::Auto}[random.below(6)];
  options.predictor = std::array{Predictor::None, Predictor::Previous, Predictor::Path, Predictor::Caller}[random.below(4)];
  options.engine = random.below(2) == 0 ? ReadEngine::Best : ReadEngine::Threads;
  if (random.below(2) == 0) options.step_bytes = step_bytes(transformer.spec(), 1 + random.below(9), 1);
  if (random.below(3) == 0) options.pinned = {{transformer.spec().num_layers - 1, 0}, {transformer.spec().num_layers - 1, 1}};
  return options;
}

void expect_the_same_bits(const path& file, kernel::Arithmetic arithmetic, Random& random) {
  Loaded resident(file, 1, arithmetic);
  const auto tokens = some_tokens(resident.file.spec(), random);
  const auto expected = resident.logits(tokens, std::array<size_t, 2>{9, 7});
  for (int attempt = 0; attempt < 8; ++attempt) {
    Loaded streamed(file, 1 + static_cast<int>(random.below(3)), arithmetic);
    StreamedExperts& experts = streamed.transformer.streamed_experts();
    streamed.transformer.pin_dense();
    const StreamedExperts::Options options = some_options(streamed.transformer, experts, random);
    experts.open(options);
    experts.store().measure_read_rate(1e-4);
    const auto found = streamed.logits(tokens, std::array<size_t, 3>{1 + random.below(12), 1 + random.below(5), 2});
    ASSERT_EQ(found.size(), expected.size());
    ASSERT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0)
        << options.room << " bytes, " << options.reads << " reads, " << name(options.policy) << ", " << streamed.threads.size() << " threads";
    EXPECT_GT(experts.store().statistics().misses, 0u);
  }
}

TEST_P(Streamed, TheSameBitsInAnyMemory) {
  const auto file = test::fixture(path("models") / GetParam().file);
  if (!file) GTEST_SKIP() << "the whole fixture set is not here: " << GetParam().file;
  Random random(7);
  expect_the_same_bits(*file, kernel::Arithmetic::Fast, random);
  expect_the_same_bits(*file, kernel::Arithmetic::Exact, random);
  const test::TemporaryFolder folder;
  test::write_packed(format::ModelFile(*file), folder.path() / "packed.gguf", {.low = spec::ElementType::Q4_0});
  expect_the_same_bits(folder.path() / "packed.gguf", kernel::Arithmetic::Fast, random);
  const format::ModelFile model(*file);
  if (model.spec().width % 32 != 0 || model.spec().moe.expert_hidden % 32 != 0) return;  // no whole blocks of Q8_0
  test::write_packed(model, folder.path() / "packed.gguf", {.wishes = kAllQ8_0, .in_planes = true});
  expect_the_same_bits(folder.path() / "packed.gguf", kernel::Arithmetic::Fast, random);
}

// Ragged visits, experts that cost nothing and that no store knows, a choice that goes from layer to layer.
TEST(StreamedRouters, TheSameBitsInAnyMemory) {
  Random random(11);
  for (const test::RouterCase& router : test::kRouters) {
    SCOPED_TRACE(router.name);
    spec::ModelSpec spec = test::small_spec();
    router.change(spec.moe.router);
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(spec, folder.path() / "model");
    expect_the_same_bits(folder.path() / "model", random.below(2) == 0 ? kernel::Arithmetic::Fast : kernel::Arithmetic::Exact, random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Experts of several kinds, of several sizes.
TEST(StreamedKinds, TheSameBitsInAnyMemory) {
  Random random(13);
  const test::TemporaryFolder folder;
  test::write_random_checkpoint(test::small_spec_with_grus(), folder.path() / "model");
  for (const auto arithmetic : {kernel::Arithmetic::Fast, kernel::Arithmetic::Exact}) {
    expect_the_same_bits(folder.path() / "model", arithmetic, random);
  }
}

// Gates that choose before a layer begins: the same bits, every prediction comes true, all that is missing is predicted (but in the
// first layer, where the gate before it is its own), and no byte is read for nothing. Gates that don't: the same bits.
TEST(StreamedGates, ChoicesMadeAheadAreReadAheadForCertain) {
  using spec::Gate;
  Random random(19);
  for (const Gate gate : test::kGates) {
    SCOPED_TRACE(testing::Message() << "gate " << static_cast<int>(gate));
    spec::ModelSpec spec = test::small_spec(gate);
    spec.num_layers = 4;
    spec.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
    spec.dense_hidden = 40;
    spec.moe.router.num_experts = 9;
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(spec, folder.path() / "model");
    Loaded resident(folder.path() / "model", 1, kernel::Arithmetic::Fast);
    const auto tokens = some_tokens(spec, random);
    const auto expected = resident.logits(tokens, std::array<size_t, 1>{9});
    uint64_t read_ahead = 0;
    for (int attempt = 0; attempt < 12; ++attempt) {
      Loaded streamed(folder.path() / "model", 2, kernel::Arithmetic::Fast);
      StreamedExperts& experts = streamed.transformer.streamed_experts();
      streamed.transformer.pin_dense();
      StreamedExperts::Options options = some_options(streamed.transformer, experts, random);
      options.predictor = store::Predictor::Caller;
      experts.open(options);
      const auto found = streamed.logits(tokens, std::array<size_t, 2>{1 + random.below(12), 1 + random.below(5)});
      ASSERT_EQ(found.size(), expected.size());
      ASSERT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
      const store::StoreStatistics& s = experts.store().statistics();
      if (!moe::chooses_ahead(spec.moe.router)) continue;
      EXPECT_EQ(s.expected_right, s.expected);
      EXPECT_EQ(s.expected_missing, s.expected);
      EXPECT_EQ(s.bytes_wasted, 0u);
      EXPECT_GT(s.expected, 0u);
      if (gate != Gate::Ahead) {
        EXPECT_EQ(s.misses, s.expected);
      }
      read_ahead += s.read_ahead;
    }
    EXPECT_EQ(read_ahead > 0, moe::chooses_ahead(spec.moe.router));  // without a measured disk nothing is read on a guess
  }
}

// Chains visit a layer's experts several times a step; layers have different numbers of them.
TEST(StreamedBlockShapes, TheSameBitsInAnyMemory) {
  spec::ModelSpec spec = test::small_spec();
  spec.num_layers = 3;
  spec.feed_forward.assign(3, spec::FeedForward::Moe);
  spec.moe.router.num_experts = 6;
  spec.moe.experts_L = {3, 4, 6};
  spec.moe.iterations = 2;
  spec.moe.expert_width = 16;
  spec.moe.shared_hidden = 24;
  spec.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.5f};
  spec::ModelSpec stick = test::small_spec();
  stick.attention.num_heads = 8;
  stick.attention.weigh = spec::AttentionWeigh::StickBreaking;
  stick.attention.experts = spec::AttentionExperts{5, 2};
  stick.attention.output_bias = stick.moe.output_bias = true;
  Random random(11);
  for (const spec::ModelSpec& shape : {spec, stick}) {
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(shape, folder.path());
    expect_the_same_bits(folder.path(), kernel::Arithmetic::Fast, random);
    expect_the_same_bits(folder.path(), kernel::Arithmetic::Exact, random);
  }
}

// The model of a packed file of which nothing stays in memory.
struct Packed {
  explicit Packed(std::optional<spec::ElementType> low) {
    test::write_packed(format::ModelFile(*test::fixture("models/olmoe/bf16")), file, {.low = low});
  }
  std::vector<float> logits(const Lossy& lossy, size_t experts_there = 0) const {
    Loaded streamed(file, 2, kernel::Arithmetic::Fast);
    StreamedExperts& experts = streamed.transformer.streamed_experts();
    experts.open({.room = experts.room_for(experts_there)});
    streamed.transformer.set_lossy(lossy);
    Random random(3);
    return streamed.logits(some_tokens(streamed.file.spec(), random), {});
  }
  test::TemporaryFolder folder;
  path file = folder.path() / "packed.gguf";
};

// The same model, its experts in Q8_0, as a packed file in planes and not.
struct Planes {
  Planes() {
    const format::ModelFile source(*test::fixture("models/olmoe/bf16"));
    test::write_packed(source, file, {.wishes = kAllQ8_0, .in_planes = true});
    test::write_packed(source, whole, {.wishes = kAllQ8_0});
  }
  std::vector<int32_t> tokens(const spec::ModelSpec& spec) const {
    Random random(3);
    return some_tokens(spec, random);
  }
  test::TemporaryFolder folder;
  path file = folder.path() / "planes.gguf", whole = folder.path() / "whole.gguf";
};

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += std::pow(a[i] - b[i], 2), size += std::pow(b[i], 2);
  return std::sqrt(difference / size);
}

TEST(StreamedLossy, LowPrecisionIsNearAndNothingChangesUnlessAskedFor) {
  const Packed packed(spec::ElementType::Q5_0), coarse(spec::ElementType::Q3_K), plain({});
  const auto exact = plain.logits({});
  EXPECT_EQ(distance(packed.logits({}), exact), 0);
  const double all = distance(packed.logits({.low_precision = 1}), exact), some = distance(packed.logits({.low_precision = 0.6f}), exact);
  EXPECT_GT(some, 0);
  EXPECT_GT(all, some);
  EXPECT_LT(all, 0.1);
  EXPECT_GT(distance(coarse.logits({.low_precision = 1}), exact), all);
}

// Nothing stays that was not computed with for long, so that both planes of an expert are asked for again and again.
TEST(StreamedPlanes, AnExpertThatIsThereInLowPrecisionBecomesTheWholeOneByItsLowerPlane) {
  const Planes planes;
  const format::ModelFile file(planes.file);
  Loaded whole(planes.whole, 1, kernel::Arithmetic::Fast), streamed(planes.file, 2, kernel::Arithmetic::Fast);
  const auto tokens = planes.tokens(file.spec());
  const auto exact = whole.logits(tokens, {});
  StreamedExperts& experts = streamed.transformer.streamed_experts();
  streamed.transformer.pin_dense();
  experts.open({.room = experts.bytes(), .predictor = store::Predictor::None});
  // First all upper planes alone, then all as they should be: each is completed once, and each bit is right
  streamed.transformer.set_lossy({.low_precision = 1});
  EXPECT_GT(distance(streamed.logits(tokens, {}), exact), 0);
  const store::StoreStatistics low = experts.store().statistics();
  EXPECT_EQ(low.upgrades, 0u);
  streamed.transformer.set_lossy({});
  EXPECT_EQ(distance(streamed.logits(tokens, {}), exact), 0);
  const store::StoreStatistics all = experts.store().statistics();
  EXPECT_GT(all.upgrades, low.misses / 2);
  size_t upper = 0, lower = 0;  // bytes of one expert, which all have alike
  for (const spec::Role role : spec::kExpertMatrices) {
    for (const auto& [copy, bytes] : {std::pair{format::PackedCopy::Upper, &upper}, {format::PackedCopy::Lower, &lower}}) {
      *bytes += (file.packed_expert({role, 0, 0}, copy)->bytes.size() + 4095) / 4096 * 4096;
    }
  }
  EXPECT_EQ(low.bytes_read, low.misses * upper);
  EXPECT_EQ(all.bytes_spared, all.upgrades * upper);
  EXPECT_EQ((all - low).bytes_read, (all.misses - low.misses) * (upper + lower) - all.bytes_spared);
}

TEST(StreamedPlanes, WhateverIsAskedForInLowPrecisionBeforeTheBitsAreRightAfterwards) {
  const Planes planes;
  Loaded whole(planes.whole, 1, kernel::Arithmetic::Fast);
  const auto tokens = planes.tokens(whole.file.spec());
  const auto exact = whole.logits(tokens, {});
  Random random(5);
  uint64_t upgrades = 0;
  for (int attempt = 0; attempt < 12; ++attempt) {
    Loaded streamed(planes.file, 1 + static_cast<int>(random.below(3)), kernel::Arithmetic::Fast);
    StreamedExperts& experts = streamed.transformer.streamed_experts();
    streamed.transformer.pin_dense();
    experts.open(some_options(streamed.transformer, experts, random));
    experts.store().measure_read_rate(1e-4);
    for (int round = 0; round < 3; ++round) {
      streamed.transformer.set_lossy({.low_precision = static_cast<float>(1 + random.below(10)) / 10});
      streamed.logits(tokens, std::array<size_t, 2>{1 + random.below(12), 1 + random.below(5)});
      streamed.transformer.set_lossy({});
      ASSERT_EQ(distance(streamed.logits(tokens, std::array<size_t, 2>{1 + random.below(12), 1 + random.below(5)}), exact), 0);
    }
    upgrades += experts.store().statistics().upgrades;
  }
  EXPECT_GT(upgrades, 0u);
}

TEST(StreamedPlanes, TheUpperOneAloneIsNear) {
  const Planes planes;
  Loaded whole(planes.whole, 1, kernel::Arithmetic::Fast), streamed(planes.file, 1, kernel::Arithmetic::Fast);
  const auto tokens = planes.tokens(whole.file.spec());
  streamed.transformer.streamed_experts().open({});
  streamed.transformer.set_lossy({.low_precision = 1});
  const double error = distance(streamed.logits(tokens, {}), whole.logits(tokens, {}));
  EXPECT_GT(error, 0);
  EXPECT_LT(error, 0.2);
}

TEST(StreamedLossy, LeavingOutLightOnesIsNearer) {
  const Packed plain({});
  const auto exact = plain.logits({});
  const double little = distance(plain.logits({.skip_missing = 0.2f}), exact), much = distance(plain.logits({.skip_missing = 0.9f}), exact);
  EXPECT_LT(little, much);
  EXPECT_GT(much, 0);
}

TEST(StreamedFaults, AFlippedByteIsAnErrorThatNamesTheExpert) {
  const Packed packed({});
  const format::ModelFile file(packed.file);
  const auto place = file.packed_expert({spec::Role::ExpertUp, 1, 2})->place;
  std::fstream stream(packed.file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(place.offset + 100));
  const char byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(static_cast<std::streamoff>(place.offset + 100));
  stream.put(byte);
  stream.close();
  try {
    packed.logits({});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layer 1's expert 2"), std::string::npos) << error.what();
  }
}

TEST(StreamedFaults, AFlippedByteInEitherPlaneIsOneErrorAndTheNextRequestIsTriedAnew) {
  for (const auto copy : {format::PackedCopy::Upper, format::PackedCopy::Lower}) {
    const Planes planes;
    Loaded whole(planes.whole, 1, kernel::Arithmetic::Fast);
    const auto tokens = planes.tokens(whole.file.spec());
    const auto exact = whole.logits(tokens, {});
    Loaded streamed(planes.file, 2, kernel::Arithmetic::Fast);
    StreamedExperts& experts = streamed.transformer.streamed_experts();
    experts.open({.room = experts.bytes(), .predictor = store::Predictor::None});
    const auto place = streamed.file.packed_expert({spec::Role::ExpertUp, 1, 2}, copy)->place;
    const auto written = std::filesystem::last_write_time(planes.file);
    const auto flip = [&] {
      std::fstream stream(planes.file, std::ios::in | std::ios::out | std::ios::binary);
      stream.seekg(static_cast<std::streamoff>(place.offset + 100));
      const char byte = static_cast<char>(stream.get() ^ 1);
      stream.seekp(static_cast<std::streamoff>(place.offset + 100));
      stream.put(byte);
      stream.close();
      std::filesystem::last_write_time(planes.file, written);  // a disk that lies says nothing of it
    };
    if (copy == format::PackedCopy::Lower) {
      streamed.transformer.set_lossy({.low_precision = 1});
      streamed.logits(tokens, {});  // upper planes are there, and right
      streamed.transformer.set_lossy({});
    }
    flip();
    std::string sentence;
    try {
      streamed.logits(tokens, {});
    } catch (const Error& error) {
      sentence = error.what();
    }
    EXPECT_NE(sentence.find("layer 1's expert 2 is not what was written"), std::string::npos) << sentence;
    flip();
    EXPECT_EQ(distance(streamed.logits(tokens, {}), exact), 0);
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
