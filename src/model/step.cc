#include "model/step.h"

#include <cmath>

#include "spec/rope.h"

namespace moiety::model {

Frequencies frequencies_of(const spec::AttentionSpec& spec) {
  return {spec::frequencies(spec.rope, spec.rope_dim(), false), spec::frequencies(spec.rope, spec.rope_dim(), true)};
}

Step make_step(const spec::AttentionSpec& spec, const Frequencies& frequencies, std::span<const Chunk> chunks) {
  Step step;
  for (const Chunk& chunk : chunks) {
    for (size_t i = 0; i < chunk.tokens.size(); ++i) {
      step.cache_T.push_back(chunk.cache);
      step.position_T.push_back(chunk.cache->length() + i);
    }
  }

  const spec::RopeScaling& scaling = spec.rope.scaling;
  step.cos_TR = Matrix<float>(step.tokens(), frequencies.short_R.size());
  step.sin_TR = Matrix<float>(step.tokens(), frequencies.short_R.size());
  for (size_t t = 0; t < step.tokens(); ++t) {
    const bool is_long = step.cache_T[t]->capacity() > static_cast<size_t>(scaling.original_positions);
    const std::vector<float>& frequency_R = is_long ? frequencies.long_R : frequencies.short_R;
    const float amplitude = is_long ? scaling.long_amplitude : scaling.amplitude;
    for (size_t i = 0; i < frequency_R.size(); ++i) {
      const float angle = static_cast<float>(step.position_T[t]) * frequency_R[i];
      step.cos_TR.row(t)[i] = std::cos(angle) * amplitude;
      step.sin_TR.row(t)[i] = std::sin(angle) * amplitude;
    }
  }
  return step;
}

void rotate(spec::RopePairs pairs, std::span<const float> cos_R, std::span<const float> sin_R, std::span<float> head) {
  const size_t half = cos_R.size();
  for (size_t i = 0; i < half; ++i) {
    float& a = pairs == spec::RopePairs::Halves ? head[i] : head[2 * i];
    float& b = pairs == spec::RopePairs::Halves ? head[i + half] : head[2 * i + 1];
    const float x = a, y = b;
    a = x * cos_R[i] - y * sin_R[i];
    b = y * cos_R[i] + x * sin_R[i];
  }
}

}  // namespace moiety::model
