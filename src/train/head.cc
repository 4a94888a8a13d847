#include "train/head.h"

#include <algorithm>
#include <vector>

#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kChunk = 512;

// logits_TV leaves as probabilities; a token's loss is its log-sum minus its target's logit.
CrossEntropy measure(MatrixView<float> logits_TV, std::span<const int32_t> targets_T) {
  std::vector<double> nats_T(targets_T.size(), 0);
  parallel_ranges(targets_T.size(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      if (targets_T[t] < 0) continue;
      const auto row = logits_TV.row(t);
      const float target_logit = row[targets_T[t]];
      nats_T[t] = static_cast<double>(softmax(1.0f, row)) - target_logit;
    }
  });
  CrossEntropy result;
  for (size_t t = 0; t < targets_T.size(); ++t) {
    if (targets_T[t] < 0) continue;
    result.nats += nats_T[t];
    ++result.counted;
  }
  return result;
}

// Probabilities become gradients of the loss by the logits.
void differentiate(MatrixView<float> p_TV, std::span<const int32_t> targets_T, float factor) {
  parallel_ranges(targets_T.size(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      const auto row = p_TV.row(t);
      if (targets_T[t] < 0) {
        std::ranges::fill(row, 0.0f);
        continue;
      }
      row[targets_T[t]] -= 1.0f;
      scale(factor, row);
    }
  });
}

template <class Body>
CrossEntropy by_chunks(MatrixView<const float> x_TD, MatrixView<const float> head_VD,
                       std::span<const int32_t> targets_T, const Body& body) {
  CrossEntropy total;
  Matrix<float> logits_TV(std::min(kChunk, x_TD.rows()), head_VD.rows());
  for (size_t begin = 0; begin < x_TD.rows(); begin += kChunk) {
    const size_t count = std::min(kChunk, x_TD.rows() - begin);
    const MatrixView<float> logits = logits_TV.view().middle_rows(0, count);
    const auto targets = targets_T.subspan(begin, count);
    multiply_nt(x_TD.middle_rows(begin, count), head_VD, logits);
    const CrossEntropy part = measure(logits, targets);
    total.nats += part.nats;
    total.counted += part.counted;
    body(begin, count, logits, targets);
  }
  return total;
}

}  // namespace

CrossEntropy cross_entropy(MatrixView<const float> x_TD, MatrixView<const float> head_VD,
                           std::span<const int32_t> targets_T) {
  return by_chunks(x_TD, head_VD, targets_T, [](auto...) {});
}

CrossEntropy cross_entropy_with_gradients(MatrixView<const float> x_TD, MatrixView<const float> head_VD,
                                          std::span<const int32_t> targets_T, float factor, MatrixView<float> dx_TD,
                                          MatrixView<float> dhead_VD) {
  return by_chunks(x_TD, head_VD, targets_T,
                   [&](size_t begin, size_t count, MatrixView<float> p_TV, std::span<const int32_t> targets) {
                     differentiate(p_TV, targets, factor);
                     multiply_nn(p_TV, head_VD, dx_TD.middle_rows(begin, count));
                     multiply_tn(p_TV, x_TD.middle_rows(begin, count), dhead_VD,
                                 begin == 0 ? Into::Overwrite : Into::Add);
                   });
}

}  // namespace moiety::train
