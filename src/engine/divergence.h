// How far a model's predictions are from those of a reference: the Kullback-Leibler divergence, in nats, and what goes with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moiety::engine {

// logits -> log probabilities, in place.
void to_log_probabilities(std::span<float> logits_V);

// One prediction.
struct TokenDivergence {
  double kl = 0;              // sum of p log(p / q), p the reference's probabilities and q the model's
  bool same_top = false;      // both hold the same token for the likeliest; of equals the first
  double nats = 0;            // -log q of the token that came
  double reference_nats = 0;  // -log p of it
};
TokenDivergence compare(std::span<const float> reference_log_p_V, std::span<const float> log_q_V, int32_t token);

// Of a text.
struct Divergence {
  std::vector<double> kl;  // of each prediction
  size_t same_top = 0;
  double nats = 0, reference_nats = 0;

  void add(const TokenDivergence& token);
  void add(const Divergence& other);

  double mean() const;
  double standard_error() const;         // of the mean
  double quantile(double share) const;   // the least divergence that `share` of the predictions do not exceed; 1: the largest
  double top_agreement() const;          // share of the predictions
  double perplexity() const;
  double reference_perplexity() const;
};

}  // namespace moiety::engine
