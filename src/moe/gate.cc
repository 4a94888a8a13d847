#include "moe/gate.h"

#include <algorithm>
#include <numeric>

#include "base/random.h"

namespace moiety::moe {
namespace {

size_t experts_of(const spec::RouterRule& rule) { return static_cast<size_t>(rule.num_experts); }

// Different numbers below `bound`, each set of them as likely as any other (Floyd's algorithm).
void sample(Random& random, size_t bound, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t last = bound - out.size() + i;
    const auto drawn = static_cast<int32_t>(random.below(last + 1));
    const bool is_new = std::ranges::find(out.first(i), drawn) == out.begin() + static_cast<std::ptrdiff_t>(i);
    out[i] = is_new ? drawn : static_cast<int32_t>(last);
  }
}

}  // namespace

std::vector<int32_t> hashed_experts(const spec::RouterRule& rule, int layer, int vocab_size) {
  const size_t experts = experts_of(rule), per_token = static_cast<size_t>(rule.experts_per_token);
  const auto seed = static_cast<uint64_t>(rule.gate_seed);
  std::vector<size_t> order_V(static_cast<size_t>(vocab_size));
  std::iota(order_V.begin(), order_V.end(), size_t{0});
  Random random(seed, static_cast<uint64_t>(layer));
  for (size_t i = order_V.size(); i-- > 1;) std::swap(order_V[i], order_V[random.below(i + 1)]);

  // The first expert goes round; the others follow it at distances that are the same for a whole round.
  std::vector<int32_t> experts_VK(order_V.size() * per_token);
  std::vector<int32_t> distances(per_token - 1);
  for (size_t i = 0; i < order_V.size(); ++i) {
    if (i % experts == 0) sample(random, experts - 1, distances);
    int32_t* const experts_K = experts_VK.data() + order_V[i] * per_token;
    experts_K[0] = static_cast<int32_t>(i % experts);
    for (size_t k = 1; k < per_token; ++k) {
      experts_K[k] = static_cast<int32_t>((i + 1 + static_cast<size_t>(distances[k - 1])) % experts);
    }
  }
  return experts_VK;
}

void random_experts(const spec::RouterRule& rule, const Occasion& o, std::span<int32_t> experts_K) {
  const uint64_t in_layer = Random(static_cast<uint64_t>(rule.gate_seed), static_cast<uint64_t>(o.layer)).next();
  const uint64_t at_position = Random(in_layer, o.position).next();
  Random random(Random(at_position, static_cast<uint64_t>(o.token)).next(), o.draw);
  sample(random, experts_of(rule), experts_K);
}

void choose(std::span<const int32_t> experts_K, std::span<float> logits_E) {
  std::ranges::fill(logits_E, kNever);
  for (const int32_t expert : experts_K) logits_E[static_cast<size_t>(expert)] = 0;
}

}  // namespace moiety::moe
