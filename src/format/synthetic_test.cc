#include "format/synthetic.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "format/model_file.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::format {
namespace {

using spec::ElementType;
using spec::Role;

// What the models' authors say of them, in billions.
TEST(Synthetic, ShapesHaveThePublishedNumberOfParameters) {
  const std::map<std::string_view, double> published = {{"olmoe-1b-7b", 6.92}, {"olmoe-as-qwen3moe", 6.92},
                                                        {"qwen3-30b-a3b", 30.5}, {"mixtral-8x7b", 46.7},
                                                        {"deepseek-v2-lite", 15.7}, {"gpt-oss-20b", 20.9}};
  ASSERT_EQ(shapes().size(), published.size());
  for (const Shape& shape : shapes()) {
    const spec::ModelSpec spec = shape.spec_of(shape.published_layers);
    EXPECT_NEAR(static_cast<double>(spec.parameters()) / 1e9, published.at(shape.name), 0.06) << shape.name;
    spec::check(shape.spec_of(shape.layers), std::string(shape.name));
    EXPECT_NO_THROW(closest_family(spec, FileKind::Gguf)) << shape.name;
    EXPECT_TRUE(mix_named(shape.mix) != nullptr) << shape.name;
  }
  EXPECT_EQ(shape_named("olmoe"), nullptr);
}

TEST(Synthetic, AFileOpensAsTheModelItWasMadeOf) {
  const test::TemporaryFolder folder;
  spec::ModelSpec spec = test::small_spec();
  spec.family = "qwen3_moe";
  spec.width = spec.moe.expert_hidden = 256;
  spec.attention.qk_norm = spec::QkNorm::PerHead;
  for (const char* name : {"Q4_K_M", "MXFP4_MOE", "q8_0", "bf16"}) {
    const Mix& mix = *mix_named(name);
    size_t written = 0, all = 0;
    write_synthetic(folder.path() / "m.gguf", spec, mix, SyntheticRouting::Uniform, [&](size_t bytes, size_t of) { written = bytes, all = of; });
    EXPECT_EQ(written, all);
    EXPECT_LE(all, fs::file_size(folder.path() / "m.gguf"));

    const ModelFile file(folder.path() / "m.gguf");
    EXPECT_EQ(file.spec().parameters(), spec.parameters());
    EXPECT_EQ(file.weight({Role::ExpertGate, 0, 1}).type, mix.name == "MXFP4_MOE" ? ElementType::MXFP4 : mix.type);
    EXPECT_EQ(file.weight({Role::Head}).type, mix.name == "Q4_K_M" ? ElementType::Q6_K : mix.type);
    EXPECT_EQ(file.weight({Role::Router, 0}).type, ElementType::F32);
    EXPECT_EQ(file.gguf()->metadata().text("tokenizer.ggml.model"), "none");
    // No two experts are alike
    const TensorView a = file.weight({Role::ExpertUp, 0, 0}), b = file.weight({Role::ExpertUp, 0, 1});
    EXPECT_FALSE(std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin()));
  }
}

}  // namespace
}  // namespace moiety::format
