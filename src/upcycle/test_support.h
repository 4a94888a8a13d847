// A model in memory whose weights are random numbers, the same each time they are made.
#pragma once

#include <cmath>

#include "base/random.h"
#include "upcycle/made_model.h"

namespace moiety::upcycle {

inline spec::ModelSpec dense_spec(int layers, int width, int hidden) {
  spec::ModelSpec s{.family = "moiety", .num_layers = layers, .width = width, .vocab_size = 50, .max_positions = 64};
  s.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
  s.dense_hidden = hidden;
  s.feed_forward.assign(static_cast<size_t>(layers), spec::FeedForward::Dense);
  s.eos_tokens = {2};
  return s;
}

inline MadeModel random_model(const spec::ModelSpec& spec, uint64_t seed) {
  return {spec, [spec, seed](const spec::Weight& w) {
            const std::vector<int64_t> shape = spec::shape_of(spec, w.role, w.layer);
            size_t size = 1;
            for (const int64_t extent : shape) size *= static_cast<size_t>(extent);
            Random random(seed, static_cast<uint64_t>((w.layer + 1) * 1000 + static_cast<int>(w.role)) * 1000 +
                                    static_cast<uint64_t>(w.expert + 1));
            const bool is_norm = shape.size() == 1;
            const double spread = is_norm ? 0.2 : 1.5 / std::sqrt(static_cast<double>(shape.back()));
            std::vector<float> values(size);
            for (float& x : values) x = static_cast<float>(spread * random.normal() + (is_norm ? 1 : 0));
            return values;
          }};
}

}  // namespace moiety::upcycle
