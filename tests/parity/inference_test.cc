// Our forward pass against Hugging Face's and llama.cpp's, on the fixtures.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/json.h"
#include "base/random.h"
#include "format/convert.h"
#include "format/gguf_config.h"
#include "format/hf_config.h"
#include "format/npy.h"
#include "model/transformer.h"
#include "support/fixtures.h"

namespace moiety::model {
namespace {

using test::fixture;
using test::fs::path;

constexpr size_t kPrompt = 16, kNew = 32;

struct Case {
  std::string model, variant;  // folder of models/, "f32" or "bf16"; or a GGUF file's type
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " " << c.variant; }

Json expected_of(const std::string& model) {
  const path file = *fixture(path("models") / model / "expected.json");
  return parse_json(read_file(file), file.string());
}

// A model ready to run on the kernels and threads asked for.
struct Loaded {
  explicit Loaded(const path& p, const kernel::Kernels& kernels = *kernel::available_kernels()[0], int num_threads = 2,
                  kernel::Arithmetic arithmetic = kernel::Arithmetic::Exact)
      : file(p), threads(num_threads), compute{kernels, threads, arithmetic, &packed}, transformer(file, compute) {}
  format::ModelFile file;
  ThreadPool threads;
  kernel::PackedMemory packed;
  kernel::Compute compute;
  Transformer transformer;

  Matrix<float> logits(std::span<const int32_t> tokens, const RoutingObserver& observe = {}) {
    KvCache cache(file.spec(), tokens.size());
    const Chunk chunk{&cache, tokens, tokens.size()};
    return transformer.forward({&chunk, 1}, observe);
  }
  std::vector<int32_t> greedy(std::vector<int32_t> prompt, size_t count) {
    KvCache cache(file.spec(), prompt.size() + count);
    std::vector<int32_t> out, next = std::move(prompt);
    while (out.size() < count) {
      const Chunk chunk{&cache, next};
      const Matrix<float> row = transformer.forward({&chunk, 1});
      const auto values = row.flat();
      out.push_back(static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin()));
      next = {out.back()};
    }
    return out;
  }
};

float largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
  }
  return largest;
}

// How far fast arithmetic is from a reference: the root mean square of the differences over that of the logits.
float relative_difference(std::span<const float> logits, std::span<const float> reference) {
  EXPECT_EQ(logits.size(), reference.size());
  double differences = 0, all = 0;
  for (size_t i = 0; i < std::min(logits.size(), reference.size()); ++i) {
    differences += std::pow(logits[i] - reference[i], 2);
    all += std::pow(reference[i], 2);
  }
  return static_cast<float>(std::sqrt(differences / all));
}

// What rounded activations may cost: nothing where they are not rounded; with eight bits, a token may choose other experts.
float tolerance_of(const std::string& variant) {
  if (variant == "f32" || variant == "f16") return 1e-4f;
  return variant == "bf16" || variant == "fp8" ? 0.03f : 0.12f;
}

Loaded fast(const path& p, const kernel::Kernels& kernels) { return Loaded(p, kernels, 2, kernel::Arithmetic::Fast); }

class AgainstHuggingFace : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    folder_ = path("models") / GetParam().model;
    if (!fixture(folder_ / GetParam().variant / "model.safetensors")) {
      GTEST_SKIP() << "the whole fixture set is not here: " << folder_ / GetParam().variant;
    }
    expected_ = expected_of(GetParam().model);
    ids_ = expected_["input_ids"].get<std::vector<int32_t>>();
  }
  path checkpoint() const { return *fixture(folder_ / GetParam().variant); }
  path reference(const std::string& what) const {
    return *fixture(folder_ / fmt::format("{}_{}.npy", what, GetParam().variant));
  }
  path folder_;
  Json expected_;
  std::vector<int32_t> ids_;
};

TEST_P(AgainstHuggingFace, LogitsAgreeAtEveryPosition) {
  for (const kernel::Kernels* kernels : kernel::available_kernels()) {
    Loaded model(checkpoint(), *kernels);
    EXPECT_LT(largest_difference(model.logits(ids_).flat(), format::read_npy_floats(reference("logits")).values), 2e-4)
        << kernels->name;
    const auto one = model.logits(std::span(ids_).first(1));
    EXPECT_LT(largest_difference(one.flat(), format::read_npy_floats(reference("logits_len1")).values), 2e-4)
        << kernels->name;
  }
}

TEST_P(AgainstHuggingFace, FastArithmeticIsNear) {
  for (const kernel::Kernels* kernels : kernel::available_kernels()) {
    const auto logits = fast(checkpoint(), *kernels).logits(ids_);
    EXPECT_LT(relative_difference(logits.flat(), format::read_npy_floats(reference("logits")).values),
              tolerance_of(GetParam().variant))
        << kernels->name;
  }
}

TEST_P(AgainstHuggingFace, TheSameExpertsWithTheSameWeights) {
  Loaded model(checkpoint());
  if (model.file.spec().moe_layers() == 0) {
    model.logits(ids_, [](int layer, const moe::Routing&) { ADD_FAILURE() << "layer " << layer << " of a dense model"; });
    return;
  }
  const auto experts = format::read_npy_integers(reference("router_idx"));
  const auto weights = format::read_npy_floats(reference("router_weights"));
  const size_t tokens = static_cast<size_t>(experts.shape[1]), per_token = static_cast<size_t>(experts.shape[2]);
  std::vector<int> layers(static_cast<size_t>(model.file.spec().num_layers));
  std::iota(layers.begin(), layers.end(), 0);
  if (expected_.contains("moe_layers")) layers = expected_["moe_layers"].get<std::vector<int>>();
  size_t seen = 0;
  model.logits(ids_, [&](int layer, const moe::Routing& routing) {
    ASSERT_EQ(layer, layers.at(seen));
    ASSERT_EQ(routing.num_tokens(), static_cast<int>(tokens));
    for (size_t t = 0; t < tokens; ++t) {
      std::map<int64_t, float> ours, theirs;
      for (size_t k = 0; k < per_token; ++k) {
        const size_t at = (seen * tokens + t) * per_token + k;
        theirs[experts.values[at]] = weights.values[at];
        ours[routing.experts_N[routing.begin_T1[t] + k]] = routing.weights_N[routing.begin_T1[t] + k];
      }
      for (const auto& [expert, weight] : theirs) {
        ASSERT_TRUE(ours.contains(expert)) << "layer " << layer << " token " << t;
        EXPECT_NEAR(ours[expert], weight, 1e-5);
      }
    }
    ++seen;
  });
  EXPECT_EQ(seen, layers.size());
}

TEST_P(AgainstHuggingFace, ThirtyTwoGreedyTokensAreTheSame) {
  Loaded model(checkpoint());
  const auto wanted = expected_["variants"][GetParam().variant]["greedy32_from_first16"].get<std::vector<int32_t>>();
  EXPECT_EQ(model.greedy({ids_.begin(), ids_.begin() + kPrompt}, kNew), wanted);
}

TEST_P(AgainstHuggingFace, AnyChunkingGivesTheSameBits) {
  Loaded model(checkpoint());
  const Matrix<float> whole = model.logits(ids_);
  Random random(7);
  for (int trial = 0; trial < 12; ++trial) {
    KvCache cache(model.file.spec(), ids_.size());
    size_t at = 0;
    while (at < ids_.size()) {
      const size_t most = ids_.size() - at;
      const size_t count = trial == 0 ? 1 : std::min<size_t>(most, 1 + random.below(trial));
      const Chunk chunk{&cache, std::span(ids_).subspan(at, count), count};
      const Matrix<float> part = model.transformer.forward({&chunk, 1});
      for (size_t t = 0; t < count; ++t) {
        ASSERT_TRUE(std::ranges::equal(part.row(t), whole.row(at + t))) << "position " << at + t;
      }
      at += count;
    }
  }
}

TEST_P(AgainstHuggingFace, CompanyAndThreadsDoNotChangeABit) {
  Loaded alone(checkpoint(), *kernel::available_kernels()[0], 1);
  const Matrix<float> whole = alone.logits(ids_);

  Loaded crowd(checkpoint(), *kernel::available_kernels()[0], 3);
  const std::vector<int32_t> other(ids_.rbegin(), ids_.rend());
  KvCache cache_a(crowd.file.spec(), 64), cache_b(crowd.file.spec(), 64), cache_c(crowd.file.spec(), 64);
  const Chunk chunks[] = {{&cache_a, other, other.size()}, {&cache_b, ids_, ids_.size()}, {&cache_c, std::span(other).first(5), 5}};
  const Matrix<float> together = crowd.transformer.forward(chunks);
  for (size_t t = 0; t < ids_.size(); ++t) {
    ASSERT_TRUE(std::ranges::equal(together.row(other.size() + t), whole.row(t))) << "position " << t;
  }
}

// FP8 under its scales has no place in what is written; all other types go there and back without a number changed.
TEST_P(AgainstHuggingFace, WrittenInAnyFormatAndReadAgainItComputesTheSame) {
  Loaded model(checkpoint());
  const format::ModelFile& file = model.file;
  const auto type = GetParam().variant == "fp8" ? std::optional(spec::ElementType::F32) : std::nullopt;
  const Matrix<float> whole = model.logits(ids_);
  const test::TemporaryFolder folder;

  const format::Family& as_hf = format::closest_family(file.spec(), format::FileKind::HuggingFace);
  format::write_safetensors(folder.path() / "model.safetensors", format::hf_tensors(file, as_hf, type));
  test::write_bytes(folder.path() / "config.json", format::hf_config(file.spec(), as_hf, spec::ElementType::F32).dump());
  EXPECT_LT(largest_difference(Loaded(folder.path()).logits(ids_).flat(), whole.flat()), 1e-4) << as_hf.name;

  const format::Family* as_gguf = nullptr;
  try {
    as_gguf = &format::closest_family(file.spec(), format::FileKind::Gguf);
  } catch (const Error&) {
    EXPECT_TRUE(GetParam().model == "phimoe" || GetParam().model == "jetmoe");  // llama.cpp computes it otherwise, or not at all
    return;
  }
  format::GgufMetadata metadata;
  format::add_gguf_config(file.spec(), *as_gguf, spec::ElementType::F32, "test", metadata);
  format::write_gguf(folder.path() / "model.gguf", metadata, format::gguf_tensors(file, *as_gguf, type));
  EXPECT_LT(largest_difference(Loaded(folder.path() / "model.gguf").logits(ids_).flat(), whole.flat()), 1e-4)
      << as_gguf->name;
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.model + "_" + info.param.variant; }
INSTANTIATE_TEST_SUITE_P(Models, AgainstHuggingFace,
                         testing::Values(Case{"mixtral", "f32"}, Case{"mixtral", "bf16"}, Case{"mixtral_k256", "bf16"},
                                         Case{"olmoe", "f32"}, Case{"olmoe", "bf16"}, Case{"qwen3_moe", "f32"},
                                         Case{"qwen3_moe", "bf16"}, Case{"qwen3_moe_k256", "bf16"},
                                         Case{"qwen3_moe_fp8", "fp8"}, Case{"qwen2_moe", "f32"}, Case{"qwen2_moe", "bf16"},
                                         Case{"deepseek_v2", "f32"}, Case{"deepseek_v2", "bf16"},
                                         Case{"deepseek_v2_b", "f32"}, Case{"deepseek_v2_b", "bf16"},
                                         Case{"deepseek_v3", "f32"}, Case{"deepseek_v3", "bf16"}, Case{"gpt_oss", "f32"},
                                         Case{"gpt_oss", "bf16"}, Case{"gpt_oss_trunc", "f32"},
                                         Case{"gpt_oss_trunc", "bf16"}, Case{"gpt_oss_mxfp4", "mxfp4"},
                                         Case{"granitemoe", "f32"}, Case{"granitemoe", "bf16"}, Case{"jetmoe", "f32"}, Case{"phimoe", "f32"},
                                         Case{"phimoe", "bf16"}, Case{"llama", "f32"}, Case{"llama", "bf16"},
                                         Case{"qwen3", "f32"}, Case{"qwen3", "bf16"}),
                         case_name);

// --- GGUF: the same weights, dequantised by gguf-py and run by Hugging Face's code ---

class OnGguf : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto& [name, type] = GetParam();
    folder_ = path("models") / name / "gguf";
    const auto file = fixture(folder_ / fmt::format("{}-{}.gguf", name, type));
    if (!file) GTEST_SKIP() << "the whole fixture set is not here: " << folder_;
    model_.emplace(*file);
    ids_ = expected_of(name)["input_ids"].get<std::vector<int32_t>>();
  }
  path folder_;
  std::optional<Loaded> model_;
  std::vector<int32_t> ids_;
};

class AgainstGguf : public OnGguf {};

TEST_P(AgainstGguf, LogitsAndGreedyTokensAgree) {
  const std::string& type = GetParam().variant;
  const auto reference = fixture(folder_ / fmt::format("hf_dequant_logits_{}.npy", type));
  ASSERT_TRUE(reference);
  EXPECT_LT(largest_difference(model_->logits(ids_).flat(), format::read_npy_floats(*reference).values), 2e-4);

  const path expected = *fixture(folder_ / "expected_gguf.json");
  const Json runs = parse_json(read_file(expected), expected.string())["runs"];
  const auto wanted = runs[type]["hf_dequant_greedy32_from_first16"].get<std::vector<int32_t>>();
  EXPECT_EQ(model_->greedy({ids_.begin(), ids_.begin() + kPrompt}, kNew), wanted);
}

TEST_P(AgainstGguf, FastArithmeticIsNear) {
  const auto reference = format::read_npy_floats(*fixture(folder_ / fmt::format("hf_dequant_logits_{}.npy", GetParam().variant)));
  for (const kernel::Kernels* kernels : kernel::available_kernels()) {
    const auto logits = fast(model_->file.path(), *kernels).logits(ids_);
    EXPECT_LT(relative_difference(logits.flat(), reference.values), tolerance_of(GetParam().variant)) << kernels->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, AgainstGguf,
                         testing::Values(Case{"mixtral", "f32"}, Case{"mixtral", "f16"}, Case{"mixtral", "Q8_0"},
                                         Case{"mixtral", "Q4_0"}, Case{"olmoe", "Q4_0"}, Case{"qwen3_moe", "Q4_0"},
                                         Case{"mixtral_k256", "Q4_K_M"}, Case{"mixtral_k256", "Q6_K"},
                                         Case{"qwen3_moe_k256", "Q4_K_M"}, Case{"qwen3_moe_k256", "Q6_K"},
                                         Case{"olmoe", "f32"}, Case{"olmoe", "f16"}, Case{"olmoe", "Q8_0"},
                                         Case{"qwen3_moe", "f32"}, Case{"qwen3_moe", "f16"}, Case{"qwen3_moe", "Q8_0"}),
                         case_name);

// --- GGUF of the other families, run by llama.cpp, which rounds activations where weights are quantised ---

class AgainstLlamaCpp : public OnGguf {};

TEST_P(AgainstLlamaCpp, LogitsAgree) {
  const std::string& type = GetParam().variant;
  const Matrix<float> logits = model_->logits(ids_);
  const auto reference = format::read_npy_floats(*fixture(folder_ / fmt::format("llamacpp_logits_{}.npy", type))).values;
  if (type == "f32") {
    EXPECT_LT(largest_difference(logits.flat(), reference), 2e-4);
    return;
  }
  double sum = 0;
  ASSERT_EQ(logits.flat().size(), reference.size());
  for (size_t i = 0; i < reference.size(); ++i) sum += std::abs(logits.flat()[i] - reference[i]);
  EXPECT_LT(sum / static_cast<double>(reference.size()), 0.1);
}

INSTANTIATE_TEST_SUITE_P(Models, AgainstLlamaCpp,
                         testing::Values(Case{"deepseek_v2_b", "f32"}, Case{"deepseek_v2_b", "Q8_0"},
                                         Case{"deepseek_v3", "f32"}, Case{"deepseek_v3", "Q8_0"},
                                         Case{"gpt_oss_trunc", "f32"}, Case{"gpt_oss_trunc", "Q8_0"},
                                         Case{"granitemoe", "Q8_0"}, Case{"llama", "Q8_0"}, Case{"qwen3", "Q8_0"},
                                         Case{"qwen2_moe", "Q8_0"}),
                         case_name);

}  // namespace
}  // namespace moiety::model
