// The heart of attention, for every kind of it: each query against the keys that it may see, without a matrix of scores.
#pragma once

#include <span>
#include <vector>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/kv_heads.h"

namespace moiety::model {

// Tokens of one sequence, rows of a step that follow each other, and where the keys and values of the sequence are.
struct AttendRun {
  size_t first_token = 0, tokens = 0;
  size_t first_position = 0;
  KvHeads kv;
};

struct AttendOptions {
  size_t heads = 0;  // of queries; they share the keys' heads evenly
  size_t window = 0;  // tokens a query sees, itself included; 0: all
  float scale = 1;
  bool breaks_stick = false;  // spec::AttentionWeigh::StickBreaking, without sinks
  // Empty, or a logit a head that takes part in the softmax and stands for nothing (Xiao et al. 2023, "Efficient streaming
  // language models with attention sinks", learnt as in gpt-oss).
  std::span<const float> sinks_H;
};

// mixed = softmax(scale * q K^T) V, or with what a stick is broken into instead of the softmax, for the runs' tokens: queries
// [T, heads * key dim], mixed [T, heads * value dim]. A token's numbers are the same bits whatever else is in the runs and however many threads compute.
void attend(const kernel::Compute& compute, const AttendOptions& options, std::span<const AttendRun> runs,
            MatrixView<const float> query, MatrixView<float> mixed);

}  // namespace moiety::model
