// A packed file computes the same bits as the file that it was packed from.
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/packed_file.h"

namespace moiety::model {
namespace {

using spec::ElementType;
using test::fs::path;

std::vector<float> logits_of(const path& file_path, int num_threads, kernel::Arithmetic arithmetic = kernel::Arithmetic::Fast,
                             bool is_prepared = false) {
  const format::ModelFile file(file_path);
  ThreadPool threads(num_threads);
  Transformer transformer(file, {*kernel::available_kernels()[0], threads, arithmetic});
  if (is_prepared) transformer.prepare();
  Random random(7);
  std::vector<int32_t> tokens(24);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(file.spec().vocab_size)));
  KvCache cache(file.spec(), tokens.size());
  std::vector<float> all;
  for (const auto& [first, count] : {std::pair<size_t, size_t>{0, 15}, {15, 8}, {23, 1}}) {
    const Chunk chunk{&cache, std::span<const int32_t>(tokens).subspan(first, count), count};
    const Matrix<float> logits = transformer.forward({&chunk, 1});
    const auto values = logits.flat();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Case {
  const char* name;
  const char* file;
  bool by_gguf = false;  // as a GGUF file that is not packed: GGUF turns other rows of queries than Mixtral, and has no FP8
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Packed : public testing::TestWithParam<Case> {};

TEST_P(Packed, TheSameBitsAsTheSource) {
  const auto file = test::fixture(path("models") / GetParam().file);
  if (!file) GTEST_SKIP() << "the whole fixture set is not here: " << GetParam().file;
  const test::TemporaryFolder folder;
  const format::ModelFile model(*file);
  path reference = *file;
  if (GetParam().by_gguf) {
    reference = folder.path() / "reference.gguf";
    format::write_gguf(reference, test::gguf_metadata_of(model),
                       format::gguf_tensors(model, format::closest_family(model.spec(), format::FileKind::Gguf), {}));
  }
  const auto expected = logits_of(reference, 1);
  EXPECT_TRUE(same_bits(logits_of(reference, 2, kernel::Arithmetic::Fast, true), expected)) << "packed from the start";
  for (const bool with_low : {false, true}) {
    test::PackAs as;
    if (with_low) as.low = ElementType::Q4_0;
    test::write_packed(model, folder.path() / "packed.gguf", as);
    EXPECT_TRUE(same_bits(logits_of(folder.path() / "packed.gguf", 1 + with_low, kernel::Arithmetic::Fast, with_low), expected)) << (with_low ? "with a second copy" : "");
  }
}

TEST_P(Packed, PlanesGiveTheSameBitsAsTheWhole) {
  const auto file = test::fixture(path("models") / GetParam().file);
  if (!file) GTEST_SKIP() << "the whole fixture set is not here: " << GetParam().file;
  const test::TemporaryFolder folder;
  const format::ModelFile model(*file);
  if (model.spec().width % 32 != 0 || model.spec().moe.expert_hidden % 32 != 0) return;  // no whole blocks of Q8_0
  const std::vector<format::TypeWish> all = {{"ffn", std::regex("ffn"), ElementType::Q8_0}};
  test::write_packed(model, folder.path() / "whole.gguf", {.wishes = all});
  test::write_packed(model, folder.path() / "planes.gguf", {.wishes = all, .in_planes = true});
  EXPECT_TRUE(same_bits(logits_of(folder.path() / "planes.gguf", 2), logits_of(folder.path() / "whole.gguf", 1)));
}

INSTANTIATE_TEST_SUITE_P(Models, Packed,
                         testing::Values(Case{"mixtral_f32", "mixtral/f32", true}, Case{"olmoe_bf16", "olmoe/bf16"},
                                         Case{"mixtral_Q8_0", "mixtral/gguf/mixtral-Q8_0.gguf"},
                                         Case{"qwen3_Q4_K_M", "qwen3_moe_k256/gguf/qwen3_moe_k256-Q4_K_M.gguf"},
                                         Case{"qwen2_shared", "qwen2_moe/bf16"}, Case{"deepseek_v3", "deepseek_v3/bf16"},
                                         Case{"fp8", "qwen3_moe_fp8/fp8", true}, Case{"gpt_oss_mxfp4", "gpt_oss_mxfp4/mxfp4"},
                                         Case{"gpt_oss_turned", "gpt_oss/bf16"}, Case{"granite_halves", "granitemoe/bf16"}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(PackedTypes, AnExpertInAnotherTypeChangesTheNumbers) {
  const path file = *test::fixture("models/olmoe/bf16");
  const test::TemporaryFolder folder;
  const path packed = folder.path() / "packed.gguf";
  const auto expected = logits_of(file, 2);
  const format::ModelFile model(file);
  test::write_packed(model, packed, {.wishes = {{"x", std::regex("blk\\.0\\.ffn_up\\."), ElementType::Q4_0}}});
  const auto found = logits_of(packed, 2);
  EXPECT_FALSE(same_bits(found, expected));
  double error = 0, size = 0;
  for (size_t i = 0; i < found.size(); ++i) error += std::pow(found[i] - expected[i], 2), size += std::pow(expected[i], 2);
  EXPECT_LT(std::sqrt(error / size), 0.2);
}

TEST(PackedTypes, ExactArithmeticWantsTheSource) {
  const test::TemporaryFolder folder;
  const path packed = folder.path() / "packed.gguf";
  test::write_packed(format::ModelFile(*test::fixture("models/olmoe/bf16")), packed);
  EXPECT_THROW(logits_of(packed, 1, kernel::Arithmetic::Exact), Error);
  const std::vector<format::TypeWish> all = {{"ffn", std::regex("ffn"), ElementType::Q8_0}};
  test::write_packed(format::ModelFile(*test::fixture("models/olmoe/bf16")), packed, {.wishes = all, .in_planes = true});
  EXPECT_THROW(logits_of(packed, 1, kernel::Arithmetic::Exact), Error);
}

TEST(PackedTypes, ExactArithmeticHasRowsOfF32) {
  const auto file = test::fixture("models/qwen3_moe/f32");
  const test::TemporaryFolder folder;
  const path packed = folder.path() / "packed.gguf";
  test::write_packed(format::ModelFile(*file), packed);
  EXPECT_TRUE(same_bits(logits_of(packed, 1, kernel::Arithmetic::Exact), logits_of(*file, 1, kernel::Arithmetic::Exact)));
}

}  // namespace
}  // namespace moiety::model
