#include "train/step_law.h"

#include <cmath>

namespace moiety::train {
namespace {

constexpr double kLr = 1.79, kLrOfParameters = -0.713, kLrOfTokens = 0.307;
constexpr double kBatch = 0.58, kBatchOfTokens = 0.571;

}  // namespace

HyperParameters step_law(double parameters, double tokens) {
  return {kLr * std::pow(parameters, kLrOfParameters) * std::pow(tokens, kLrOfTokens), kBatch * std::pow(tokens, kBatchOfTokens)};
}

double step_law_batch(double steps) {
  // batch = kBatch * (steps * batch)^kBatchOfTokens, solved for batch.
  return std::pow(kBatch * std::pow(steps, kBatchOfTokens), 1 / (1 - kBatchOfTokens));
}

}  // namespace moiety::train
