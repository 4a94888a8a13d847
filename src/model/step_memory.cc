#include "model/step_memory.h"

#include <algorithm>

namespace moiety::model {

size_t step_bytes(const spec::ModelSpec& spec, size_t tokens, size_t logits) {
  const auto size = [](int n) { return static_cast<double>(std::max(n, 0)); };
  const double heads = size(spec.attention.num_heads) * size(spec.attention.head_dim);
  const double visits = size(spec.moe.router.most_experts()), width = size(spec.width);
  const double hidden = std::max(1.5 * size(spec.moe.expert_hidden), 4.5 * size(spec.moe.gru_hidden));  // of one visit
  // Numbers a token: the stream and what a block takes from and adds to it; then those of the block that holds more. What goes
  // into a product is held once more, rounded, a quarter to a half as large.
  const double attention = 5 * heads + (spec.attention.experts ? spec.attention.experts->experts_per_token * width + heads : 0);
  const double experts = visits * (width + hidden) + 1.5 * size(spec.moe.shared_hidden) + (spec.moe.iterations > 1 ? 3 * width : 0) +
                         (spec.moe.momentum.kind != spec::Momentum::None ? 2 * width : 0);
  const double dense = 1.5 * size(spec.dense_hidden);
  const double a_token = 5 * width + std::max({attention, experts, dense});
  return static_cast<size_t>(4 * (1.15 * static_cast<double>(tokens) * a_token + 2 * static_cast<double>(logits) * size(spec.vocab_size)));
}

size_t prompt_chunk(const spec::ModelSpec& spec) { return spec.attention.latent ? 2048 : 512; }

}  // namespace moiety::model
