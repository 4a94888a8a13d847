// What a vocabulary's logits say, read in blocks: vocabularies have a hundred thousand tokens and more, and each new token of each
// sequence goes through all of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moiety::engine {

float largest_of(std::span<const float> logits_V);
// The likeliest token, the lower id of equals.
int32_t likeliest_of(std::span<const float> logits_V);
// The `count` likeliest tokens by falling logit, equals by rising id. All of them if there are no more.
std::vector<int32_t> likeliest_of(std::span<const float> logits_V, size_t count);

// exp((logit - largest) * sharpness) of each token, summed by blocks of kBlock tokens; what is below `least` counts as 0.
class Weights {
 public:
  static constexpr size_t kBlock = 256;

  Weights(std::span<const float> logits_V, float sharpness, float least = 0);

  double sum() const { return sum_; }
  float largest() const { return largest_; }
  float of(size_t token) const;
  // The tokens of at least this weight, and perhaps some that are a little lighter.
  std::vector<int32_t> at_least(double weight) const;
  // The token at which the sum of all up to it exceeds `point`, which is less than sum(); never one of weight 0.
  int32_t at(double point) const;

 private:
  std::span<const float> logits_V_;
  float sharpness_, least_, largest_;
  std::vector<double> block_sums_;
  double sum_ = 0;
};

}  // namespace moiety::engine
