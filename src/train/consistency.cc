#include "train/consistency.h"

#include <algorithm>

#include "train/buffer.h"
#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kChunk = 512;

// Logits -> log probabilities.
void log_softmax(std::span<float> logits, std::span<float> scratch) {
  std::ranges::copy(logits, scratch.begin());
  const float log_sum = exponentials(1.0f, scratch).log_sum();
  for (float& x : logits) x -= log_sum;
}

// A token's two distributions, as logits that leave as gradients of the returned loss times `factor`.
double disagree(std::span<float> a_V, std::span<float> b_V, std::span<float> scratch, float factor) {
  log_softmax(a_V, scratch);
  log_softmax(b_V, scratch);
  double forward = 0, backward = 0;  // KL(p || q), KL(q || p)
  for (size_t v = 0; v < a_V.size(); ++v) {
    const double difference = a_V[v] - b_V[v];
    forward += std::exp(a_V[v]) * difference;
    backward -= std::exp(b_V[v]) * difference;
  }
  for (size_t v = 0; v < a_V.size(); ++v) {
    const float difference = a_V[v] - b_V[v], p = std::exp(a_V[v]), q = std::exp(b_V[v]);
    a_V[v] = factor / 2 * (p * (difference - static_cast<float>(forward)) + p - q);
    b_V[v] = factor / 2 * (q * (-difference - static_cast<float>(backward)) + q - p);
  }
  return (forward + backward) / 2;
}

}  // namespace

Tensor mean_consistency(const Tensor& a_TD, const Tensor& b_TD, const WeightMatrix& head_VD, const std::vector<int32_t>& targets_T,
                        GemmType type) {
  const size_t vocabulary = head_VD.value.rows(), tokens = targets_T.size();
  const auto counted = std::ranges::count_if(targets_T, [](int32_t target) { return target >= 0; });
  const float factor = 1.0f / static_cast<float>(std::max<int64_t>(1, counted));
  const Tensor da_TD = torch::empty_like(a_TD), db_TD = torch::empty_like(b_TD);
  const Tensor dhead_VD = torch::zeros({static_cast<int64_t>(vocabulary), a_TD.size(-1)});

  Buffer a_TV(std::min(kChunk, tokens), vocabulary), b_TV(std::min(kChunk, tokens), vocabulary);
  std::vector<double> loss_T(tokens, 0);
  for (size_t first = 0; first < tokens; first += kChunk) {
    const size_t count = std::min(kChunk, tokens - first);
    const auto rows = [&](const Tensor& x) { return view(x).middle_rows(first, count); };
    const MatrixView<float> a = a_TV.view().middle_rows(0, count), b = b_TV.view().middle_rows(0, count);
    multiply_nt(type, rows(a_TD), head_VD.value, a);
    multiply_nt(type, rows(b_TD), head_VD.value, b);
    parallel_ranges(count, [&](size_t begin, size_t end, size_t) {
      std::vector<float> scratch(vocabulary);
      for (size_t t = begin; t < end; ++t) {
        if (targets_T[first + t] >= 0) {
          loss_T[first + t] = disagree(a.row(t), b.row(t), scratch, factor);
        } else {
          std::ranges::fill(a.row(t), 0.0f), std::ranges::fill(b.row(t), 0.0f);
        }
      }
    });
    for (const auto& [dlogits, x, dx] : {std::tuple{a, a_TD, da_TD}, std::tuple{b, b_TD, db_TD}}) {
      multiply_nn(type, dlogits, head_VD.value, rows(dx));
      multiply_tn(type, dlogits, rows(x), view(dhead_VD), Into::Add);
    }
  }
  double loss = 0;
  for (const double nats : loss_T) loss += nats;

  return record({a_TD, b_TD}, {torch::tensor(static_cast<float>(loss * factor))}, [=](const tensor_list& d) -> tensor_list {
    const float upstream = d[0].item<float>();
    parallel_ranges(static_cast<size_t>(dhead_VD.numel()), [&](size_t begin, size_t end, size_t) {
      add_scaled(upstream, flat(dhead_VD).subspan(begin, end - begin), head_VD.gradient.flat().subspan(begin, end - begin));
    });
    return {da_TD * upstream, db_TD * upstream};
  })[0];
}

}  // namespace moiety::train
