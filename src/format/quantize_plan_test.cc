#include "format/quantize_plan.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace moiety::format {
namespace {

using spec::ElementType;

TensorSource tensor(std::string name, std::vector<int64_t> shape) {
  TensorSource out;
  out.name = std::move(name);
  out.shape = std::move(shape);
  out.type = ElementType::BF16;
  return out;
}

spec::ModelSpec model_of(int layers) {
  spec::ModelSpec spec;
  spec.num_layers = layers;
  return spec;
}

std::map<std::string, ElementType> chosen(const char* mix, std::vector<TensorSource> tensors, const spec::ModelSpec& spec,
                                          std::vector<TypeWish> wishes = {}) {
  choose_types(*mix_named(mix), wishes, spec, tensors);
  std::map<std::string, ElementType> types;
  for (const TensorSource& t : tensors) types[t.name] = t.type;
  return types;
}

TypeWish wish(const std::string& pattern, ElementType type) { return {pattern, std::regex(pattern), type}; }

TEST(QuantizePlan, SensitiveLayersGetMoreBits) {
  std::vector<TensorSource> tensors = {tensor("output.weight", {512, 256}), tensor("token_embd.weight", {512, 256})};
  for (int layer = 0; layer < 8; ++layer) tensors.push_back(tensor(fmt::format("blk.{}.ffn_down_exps.weight", layer), {4, 256, 512}));
  const auto types = chosen("q4_k_m", tensors, model_of(8));
  EXPECT_EQ(types.at("output.weight"), ElementType::Q6_K);
  EXPECT_EQ(types.at("token_embd.weight"), ElementType::Q4_K);
  for (int layer = 0; layer < 8; ++layer) {
    const bool sensitive = layer == 0 || layer == 3 || layer == 6 || layer == 7;
    EXPECT_EQ(types.at(fmt::format("blk.{}.ffn_down_exps.weight", layer)), sensitive ? ElementType::Q6_K : ElementType::Q4_K);
  }
}

TEST(QuantizePlan, ATiedEmbeddingIsTheHead) {
  spec::ModelSpec spec = model_of(1);
  spec.tied_embeddings = true;
  EXPECT_EQ(chosen("Q4_K_S", {tensor("token_embd.weight", {512, 256})}, spec).at("token_embd.weight"), ElementType::Q6_K);
}

TEST(QuantizePlan, WhatIsSmallAndDecidesMuchStaysAsItIs) {
  const auto types = chosen("Q2_K",
                            {tensor("blk.0.attn_norm.weight", {256}), tensor("blk.0.attn_q_norm.weight", {4, 256}),
                             tensor("blk.0.ffn_gate_inp.weight", {8, 256}), tensor("blk.0.ffn_up_exps.bias", {8, 256}),
                             tensor("blk.0.ffn_gate_inp_shexp.weight", {1, 256}), tensor("blk.0.attn_q.weight", {256, 256})},
                            model_of(1), {wish(".*", ElementType::Q3_K)});
  for (const auto& [name, type] : types) EXPECT_EQ(type, name == "blk.0.attn_q.weight" ? ElementType::Q3_K : ElementType::F32) << name;
}

TEST(QuantizePlan, TheLastWishThatFitsCounts) {
  const auto types = chosen("Q8_0", {tensor("blk.0.ffn_up_exps.weight", {4, 256, 256}), tensor("blk.0.ffn_down_exps.weight", {4, 256, 256})},
                            model_of(1), {wish("exps", ElementType::Q4_K), wish("ffn_down", ElementType::Q6_K)});
  EXPECT_EQ(types.at("blk.0.ffn_up_exps.weight"), ElementType::Q4_K);
  EXPECT_EQ(types.at("blk.0.ffn_down_exps.weight"), ElementType::Q6_K);
}

TEST(QuantizePlan, RowsThatAreNoWholeBlocksGetSmallerBlocks) {
  std::vector<TensorSource> tensors = {tensor("blk.0.attn_q.weight", {256, 96}), tensor("blk.0.attn_k.weight", {256, 100})};
  const auto plan = choose_types(*mix_named("Q4_K"), {}, model_of(1), tensors);
  EXPECT_EQ(plan[0].to, ElementType::Q5_0);
  EXPECT_EQ(plan[0].wanted, ElementType::Q4_K);
  EXPECT_EQ(plan[1].to, ElementType::F16);
}

TEST(QuantizePlan, AWishThatFitsNothingIsAMistake) {
  const std::vector<TypeWish> wishes = {wish("fnn_down", ElementType::Q4_0)};
  std::vector<TensorSource> tensors = {tensor("blk.0.ffn_down.weight", {256, 256})};
  EXPECT_THROW(choose_types(*mix_named("Q8_0"), wishes, model_of(1), tensors), Error);
}

TEST(QuantizePlan, EveryMixHasOneName) {
  for (const Mix& mix : mixes()) EXPECT_EQ(mix_named(mix.name), &mix);
  EXPECT_EQ(mix_named("Q4"), nullptr);
  EXPECT_EQ(mix_named(""), nullptr);
}

}  // namespace
}  // namespace moiety::format
