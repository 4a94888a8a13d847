#include "moe/entropy.h"

#include <cmath>

namespace moiety::moe {
namespace {

bool is_shannon(float q) { return std::abs(q - 1) < 1e-3f; }

}  // namespace

float entropy(float q, std::span<const float> p) {
  double sum = 0;
  for (const double share : p) {
    if (share > 0) sum += is_shannon(q) ? -share * std::log(share) : std::pow(share, q);
  }
  return static_cast<float>(is_shannon(q) ? sum : (1 - sum) / (q - 1));
}

float entropy_of_equals(float q, size_t count) {
  const double n = static_cast<double>(count);
  return static_cast<float>(is_shannon(q) ? std::log(n) : (1 - std::pow(n, 1 - double{q})) / (q - 1));
}

float entropy_slope(float q, float p) {
  if (!(p > 0)) return 0;
  return is_shannon(q) ? -std::log(p) - 1 : -q * std::pow(p, q - 1) / (q - 1);
}

}  // namespace moiety::moe
