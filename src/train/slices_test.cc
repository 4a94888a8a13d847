#include "train/slices.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace moiety::train {
namespace {

using spec::Role;

spec::ModelSpec small() {
  spec::ModelSpec s{.num_layers = 2, .width = 16};
  s.attention = {.num_heads = 10, .num_kv_heads = 5, .head_dim = 4};
  s.feed_forward = {spec::FeedForward::Dense, spec::FeedForward::Moe};
  s.dense_hidden = 7;
  s.moe.shared_hidden = 8;
  return s;
}

TEST(Slices, OfAllRanksAreTheWholeAndHeadsGoWithTheirKeys) {
  const spec::ModelSpec spec = small();
  for (const Role role : {Role::Query, Role::Key, Role::Value, Role::AttentionOutput, Role::DenseGate, Role::DenseDown, Role::SharedUp, Role::SharedDown}) {
    size_t next = 0;
    for (int rank = 0; rank < 3; ++rank) {
      const auto slices = slices_of(spec, role, {rank, 3});
      ASSERT_TRUE(slices);
      EXPECT_EQ(slices->kept.begin, next);
      next = slices->kept.end();
      EXPECT_EQ(static_cast<int64_t>(slices_of(spec, Role::Query, {rank, 3})->kept.size), heads_here(spec.attention, {rank, 3}).num_heads * 4);
      EXPECT_EQ(slices_of(spec, Role::Query, {rank, 3})->kept.size, 2 * slices_of(spec, Role::Key, {rank, 3})->kept.size);
    }
    EXPECT_EQ(static_cast<int64_t>(next), spec::shape_of(spec, role)[slices_of(spec, role, {0, 3})->axis]);
  }
  EXPECT_FALSE(slices_of(spec, Role::Router, {0, 3}) || slices_of(spec, Role::Embedding, {0, 3}) || slices_of(spec, Role::Query, {}));
}

TEST(Slices, WhatCanNotBeSharedOutIsASentence) {
  const auto sentence = [](void (*change)(spec::ModelSpec&)) -> std::string {
    spec::ModelSpec spec = small();
    change(spec);
    try {
      check_slices(spec, {.ranks = 3});
      return "none";
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_EQ(sentence([](spec::ModelSpec&) {}), "none");
  EXPECT_EQ(sentence([](spec::ModelSpec& s) { s.attention.num_kv_heads = 2; }), "ranks.tensor is 3, and there are 2 key-value heads to share out");
  EXPECT_EQ(sentence([](spec::ModelSpec& s) { s.moe.shared_hidden = 1; }), "ranks.tensor is 3, and there are 1 hidden units of the shared experts to share out");
  EXPECT_EQ(sentence([](spec::ModelSpec& s) { s.dense_hidden = 2; }), "ranks.tensor is 3, and there are 2 hidden units of a dense feed-forward to share out");
  EXPECT_NE(sentence([](spec::ModelSpec& s) { s.attention.qk_norm = spec::QkNorm::Whole; }).find("qk_norm"), std::string::npos);
  EXPECT_NE(sentence([](spec::ModelSpec& s) { s.attention.experts = spec::AttentionExperts{5, 2}; }).find("attention experts"), std::string::npos);
  EXPECT_NE(sentence([](spec::ModelSpec& s) { s.moe.gru_experts = 1; }).find("GRU experts"), std::string::npos);
}

}  // namespace
}  // namespace moiety::train
