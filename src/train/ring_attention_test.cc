// Ranks that have parts of the documents against one that has them whole.
#include "train/ring_attention.h"

#include <gtest/gtest.h>

#include <mutex>

#include "support/random_matrix.h"
#include "support/rank_threads.h"

namespace moiety::train {
namespace {

constexpr size_t kLength = 150;  // of a sequence

// Three sequences of documents, one of a single token; none of the cuts is theirs.
Batch pass() {
  Batch batch{.sequence = kLength};
  for (size_t t = 0; t < 3 * kLength; ++t) {
    batch.tokens_T.push_back(static_cast<int32_t>(t));
    batch.targets_T.push_back(static_cast<int32_t>(t + 1));
  }
  for (const auto& [begin, length] : std::vector<std::pair<int, int>>{{0, 150}, {150, 71}, {221, 1}, {222, 78}, {300, 11}, {311, 139}}) {
    batch.segments.push_back({begin, length, 0});
  }
  return batch;
}

TEST(RingAttention, PartsHoldEveryTokenOnceWithItsPlaceInItsDocument) {
  const Batch whole = pass();
  for (const int ranks : {1, 2, 3, 5}) {
    std::vector<int> seen(whole.tokens_T.size(), 0);
    std::mutex counting;
    test::on_ranks(ranks, [&](comm::Group& group) {
      const Batch part = part_of_ring(whole, group);
      ASSERT_EQ(part.ring->tokens_R.size(), static_cast<size_t>(ranks));
      EXPECT_EQ(part.ring->tokens_R[static_cast<size_t>(group.rank())], part.tokens_T.size());
      EXPECT_NEAR(part.num_tokens(), whole.num_tokens() / ranks, 6);
      const std::lock_guard lock(counting);
      int covered = 0;
      for (const Segment& segment : part.segments) {
        EXPECT_EQ(segment.begin, covered);
        covered += segment.length;
        for (int i = 0; i < segment.length; ++i) {
          const int32_t token = part.tokens_T[static_cast<size_t>(segment.begin + i)];
          ++seen[static_cast<size_t>(token)];
          EXPECT_EQ(token, whole.segments[static_cast<size_t>(segment.document)].begin + segment.position + i);
          EXPECT_EQ(part.targets_T[static_cast<size_t>(segment.begin + i)], token + 1);
        }
      }
      EXPECT_EQ(covered, part.num_tokens());
    });
    EXPECT_EQ(seen, std::vector<int>(whole.tokens_T.size(), 1));
  }
}

TEST(RingAttention, IsThatOfOneRankForwardAndBackward) {
  const Batch whole = pass();
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    spec::AttentionSpec spec{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
    spec.qk_norm = spec::QkNorm::PerHead;
    const RotaryTable rotary = rotary_table(spec, kLength);
    const Attention attention(spec, 1e-5f, rotary, type);
    const size_t tokens = whole.tokens_T.size(), width = attention.layout().width(), out_width = attention.layout().query_width();
    const Matrix<float> qkv = test::random_matrix(tokens, width, 1), dout = test::random_matrix(tokens, out_width, 2), norms = test::random_matrix(2, 8, 3);
    const AttentionWeights weights{norms.row(0), norms.row(1)};
    Matrix<float> out(tokens, out_width), dqkv(tokens, width), dnorms(2, 8);
    const AttentionSaved saved = attention.forward(qkv.view(), weights, whole.segments, out.view());
    attention.backward(qkv.view(), weights, whole.segments, saved, dout.view(), dqkv.view(), {dnorms.row(0), dnorms.row(1)});

    for (const int ranks : {1, 2, 3, 5}) {
      Matrix<float> dnorms_of_all(2, 8);
      std::mutex adding;
      test::on_ranks(ranks, [&](comm::Group& group) {
        const Batch part = part_of_ring(whole, group);
        const size_t mine = part.tokens_T.size();
        Matrix<float> my_qkv(mine, width), my_dout(mine, out_width), my_out(mine, out_width), my_dqkv(mine, width), my_dnorms(2, 8);
        for (size_t t = 0; t < mine; ++t) {
          std::ranges::copy(qkv.row(static_cast<size_t>(part.tokens_T[t])), my_qkv.row(t).begin());
          std::ranges::copy(dout.row(static_cast<size_t>(part.tokens_T[t])), my_dout.row(t).begin());
        }
        const AttentionSaved my_saved = attention.forward(my_qkv.view(), weights, part.segments, my_out.view(), part.ring.get());
        attention.backward(my_qkv.view(), weights, part.segments, my_saved, my_dout.view(), my_dqkv.view(), {my_dnorms.row(0), my_dnorms.row(1)},
                           my_out.view(), part.ring.get());
        const float tolerance = type == GemmType::F32 ? 2e-5f : 5e-2f;
        for (size_t t = 0; t < mine; ++t) {
          const auto at = static_cast<size_t>(part.tokens_T[t]);
          for (size_t i = 0; i < out_width; ++i) ASSERT_NEAR(my_out.row(t)[i], out.row(at)[i], tolerance) << at;
          for (size_t i = 0; i < width; ++i) ASSERT_NEAR(my_dqkv.row(t)[i], dqkv.row(at)[i], tolerance) << at << " " << i;
        }
        const std::lock_guard lock(adding);
        for (size_t i = 0; i < 16; ++i) dnorms_of_all.flat()[i] += my_dnorms.flat()[i];
      });
      for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(dnorms_of_all.flat()[i], dnorms.flat()[i], type == GemmType::F32 ? 1e-3 : 1) << ranks;
    }
  }
}

}  // namespace
}  // namespace moiety::train
