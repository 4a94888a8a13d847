#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kPiece = 1 << 15;

}  // namespace

Optimizer::Optimizer(const TrainConfig::Optimizer& config, Weights& weights)
    : config_(config),
      weights_(weights),
      first_moment_(1, weights.values().size()),
      second_moment_(1, weights.values().size()) {
  for (const Weights::Entry& entry : weights.entries()) {
    if (!entry.trained) continue;
    for (size_t at = 0; at < entry.size; at += kPiece) {
      pieces_.push_back({entry.begin + at, std::min(kPiece, entry.size - at), entry.is_matrix()});
    }
  }
}

double Optimizer::step(int64_t step, double learning_rate) {
  // Summed piece by piece in their order, so that the norm doesn't depend on the number of threads.
  std::vector<double> squares(pieces_.size());
  parallel_tasks(pieces_.size(), [&](size_t i) {
    squares[i] = sum_of_squares(weights_.gradients().subspan(pieces_[i].begin, pieces_[i].size));
  });
  double total = 0;
  for (const double square : squares) total += square;
  const double norm = std::sqrt(total);
  // Before the weights are touched, so that the last checkpoint stays the last good one.
  require(std::isfinite(norm), "step {}: the gradient's norm is {}; a lower optimizer.lr may help", step + 1, norm);

  const bool clipped = config_.clip > 0 && norm > config_.clip;
  const double t = static_cast<double>(step + 1);
  AdamStep adam{.learning_rate = static_cast<float>(learning_rate),
                .beta1 = static_cast<float>(config_.beta1),
                .beta2 = static_cast<float>(config_.beta2),
                .eps = static_cast<float>(config_.eps),
                .weight_decay = 0,
                .gradient_scale = clipped ? static_cast<float>(config_.clip / norm) : 1.0f,
                .bias_correction1 = static_cast<float>(1 - std::pow(config_.beta1, t)),
                .bias_correction2 = static_cast<float>(1 - std::pow(config_.beta2, t))};
  parallel_tasks(pieces_.size(), [&](size_t i) {
    const auto part = [&](std::span<float> flat) { return flat.subspan(pieces_[i].begin, pieces_[i].size); };
    AdamStep mine = adam;
    mine.weight_decay = pieces_[i].decays ? static_cast<float>(config_.weight_decay) : 0.0f;
    const auto gradient = part(weights_.gradients());
    adamw(mine, gradient, part(weights_.values()), part(first_moment()), part(second_moment()));
    std::ranges::fill(gradient, 0.0f);
  });
  return norm;
}

}  // namespace moiety::train
