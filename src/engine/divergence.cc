#include "engine/divergence.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace moiety::engine {
namespace {

size_t likeliest(std::span<const float> x_V) {
  return static_cast<size_t>(std::max_element(x_V.begin(), x_V.end()) - x_V.begin());
}

}  // namespace

void to_log_probabilities(std::span<float> logits_V) {
  const float largest = *std::max_element(logits_V.begin(), logits_V.end());
  double sum = 0;
  for (const float logit : logits_V) sum += std::exp(logit - largest);
  const double log_sum = std::log(sum) + largest;
  for (float& logit : logits_V) logit = static_cast<float>(logit - log_sum);
}

TokenDivergence compare(std::span<const float> reference_log_p_V, std::span<const float> log_q_V, int32_t token) {
  assert(reference_log_p_V.size() == log_q_V.size());
  TokenDivergence out;
  for (size_t v = 0; v < log_q_V.size(); ++v) {
    const double log_p = reference_log_p_V[v];
    out.kl += std::exp(reference_log_p_V[v]) * (log_p - log_q_V[v]);
  }
  out.kl = std::max(out.kl, 0.0);  // it is none less, but for rounding
  out.same_top = likeliest(reference_log_p_V) == likeliest(log_q_V);
  out.nats = -log_q_V[static_cast<size_t>(token)];
  out.reference_nats = -reference_log_p_V[static_cast<size_t>(token)];
  return out;
}

void Divergence::add(const TokenDivergence& token) {
  kl.push_back(token.kl);
  same_top += token.same_top;
  nats += token.nats;
  reference_nats += token.reference_nats;
}

void Divergence::add(const Divergence& other) {
  kl.insert(kl.end(), other.kl.begin(), other.kl.end());
  same_top += other.same_top;
  nats += other.nats;
  reference_nats += other.reference_nats;
}

double Divergence::mean() const {
  double sum = 0;
  for (const double x : kl) sum += x;
  return kl.empty() ? 0 : sum / static_cast<double>(kl.size());
}

double Divergence::standard_error() const {
  if (kl.size() < 2) return 0;
  const double middle = mean(), n = static_cast<double>(kl.size());
  double squares = 0;
  for (const double x : kl) squares += (x - middle) * (x - middle);
  return std::sqrt(squares / (n - 1) / n);
}

double Divergence::quantile(double share) const {
  if (kl.empty()) return 0;
  std::vector<double> sorted = kl;
  std::sort(sorted.begin(), sorted.end());
  const auto place = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(place, 1, sorted.size()) - 1];
}

double Divergence::top_agreement() const {
  return kl.empty() ? 0 : static_cast<double>(same_top) / static_cast<double>(kl.size());
}
double Divergence::perplexity() const { return kl.empty() ? 0 : std::exp(nats / static_cast<double>(kl.size())); }
double Divergence::reference_perplexity() const {
  return kl.empty() ? 0 : std::exp(reference_nats / static_cast<double>(kl.size()));
}

}  // namespace moiety::engine
