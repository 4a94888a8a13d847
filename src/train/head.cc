#include "train/head.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "train/buffer.h"
#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kChunk = 512;
// Rows a power of two apart would fall into the same few cache sets when the product with dlogitsᵀ walks down a column.
constexpr size_t kPadding = 16;

// A token's loss is the log of the sum of its logits' exponentials, minus its target's logit. If `factor` is given, the
// logits leave as the gradients of the sum of losses times it.
CrossEntropy measure(MatrixView<float> logits_TV, std::span<const int32_t> targets_T, std::optional<float> factor) {
  std::vector<double> nats_T(targets_T.size(), 0);
  parallel_ranges(targets_T.size(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      const auto row = logits_TV.row(t);
      if (targets_T[t] < 0) {
        std::ranges::fill(row, 0.0f);
        continue;
      }
      const float target_logit = row[targets_T[t]];
      const Exponentials exps = exponentials(1.0f, row);
      nats_T[t] = static_cast<double>(exps.log_sum()) - target_logit;
      if (!factor) continue;
      scale(*factor / exps.sum, row);
      row[targets_T[t]] -= *factor;
    }
  });
  CrossEntropy result;
  for (size_t t = 0; t < targets_T.size(); ++t) {
    if (targets_T[t] < 0) continue;
    result.nats += nats_T[t];
    ++result.counted;
  }
  result.nats_T.assign(nats_T.begin(), nats_T.end());
  return result;
}

template <class Body>
CrossEntropy by_chunks(GemmType type, MatrixView<const float> x_TD, const Operand& head_VD,
                       std::span<const int32_t> targets_T, std::optional<float> factor, const Body& body) {
  CrossEntropy total;
  Buffer logits_TV(std::min(kChunk, x_TD.rows()), head_VD.values.rows(), head_VD.values.rows() + kPadding);
  for (size_t begin = 0; begin < x_TD.rows(); begin += kChunk) {
    const size_t count = std::min(kChunk, x_TD.rows() - begin);
    const MatrixView<float> logits = logits_TV.view().middle_rows(0, count);
    const auto targets = targets_T.subspan(begin, count);
    multiply_nt(type, x_TD.middle_rows(begin, count), head_VD, logits);
    const CrossEntropy part = measure(logits, targets, factor);
    total.nats += part.nats;
    total.counted += part.counted;
    total.nats_T.insert(total.nats_T.end(), part.nats_T.begin(), part.nats_T.end());
    body(begin, count, logits);
  }
  return total;
}

}  // namespace

CrossEntropy cross_entropy(GemmType type, MatrixView<const float> x_TD, const Operand& head_VD,
                           std::span<const int32_t> targets_T) {
  return by_chunks(type, x_TD, head_VD, targets_T, std::nullopt, [](auto...) {});
}

CrossEntropy cross_entropy_with_gradients(GemmType type, MatrixView<const float> x_TD, const Operand& head_VD,
                                          std::span<const int32_t> targets_T, float factor, MatrixView<float> dx_TD,
                                          MatrixView<float> dhead_VD) {
  if (x_TD.rows() == 0) std::ranges::fill(dhead_VD.flat(), 0.0f);
  return by_chunks(type, x_TD, head_VD, targets_T, factor, [&](size_t begin, size_t count, MatrixView<float> dlogits_TV) {
    multiply_nn(type, dlogits_TV, head_VD, dx_TD.middle_rows(begin, count));
    multiply_tn(type, dlogits_TV, x_TD.middle_rows(begin, count), dhead_VD, begin == 0 ? Into::Overwrite : Into::Add);
  });
}

}  // namespace moiety::train
