#include "model/step.h"

#include <cmath>

#include "base/error.h"
#include "spec/rope.h"

namespace moiety::model {

Frequencies frequencies_of(const spec::AttentionSpec& spec) {
  return {spec::frequencies(spec.rope, spec.rope_dim(), false), spec::frequencies(spec.rope, spec.rope_dim(), true)};
}

Step make_step(const spec::AttentionSpec& spec, const Frequencies& frequencies, std::span<const Chunk> chunks) {
  Step step;
  std::vector<KvCache*> cache_T;
  for (const Chunk& chunk : chunks) {
    require(chunk.cache->reserve(chunk.tokens.size()), "no memory is left for keys and values of {} more tokens after {}",
            chunk.tokens.size(), chunk.cache->length());
    const StepPart part{chunk.cache, step.tokens(), chunk.tokens.size(), chunk.cache->length(), chunk.router};
    step.parts.push_back(part);
    for (size_t i = 0; i < part.tokens; ++i) {
      const size_t position = part.first_position + i;
      if (i == 0 || position % kernel::kKvLanes == 0) {
        step.pieces.push_back({part.cache, part.first_token + i, 0, position});
      }
      ++step.pieces.back().tokens;
      cache_T.push_back(part.cache);
      step.position_T.push_back(position);
      step.token_T.push_back(chunk.tokens[i]);
    }
  }

  const spec::RopeScaling& scaling = spec.rope.scaling;
  step.cos_TR = Matrix<float>(step.tokens(), frequencies.short_R.size());
  step.sin_TR = Matrix<float>(step.tokens(), frequencies.short_R.size());
  for (size_t t = 0; t < step.tokens(); ++t) {
    const bool is_long = cache_T[t]->capacity() > static_cast<size_t>(scaling.original_positions);
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

void for_each_token(const kernel::Compute& compute, const Step& step,
                    const std::function<void(const StepPart&, size_t, size_t)>& body) {
  compute.threads.parallel_for(step.pieces.size(), [&](size_t p) {
    const StepPart& piece = step.pieces[p];
    for (size_t i = 0; i < piece.tokens; ++i) body(piece, piece.first_token + i, piece.first_position + i);
  });
}

void rotate(spec::RopePairs pairs, std::span<const float> cos_R, std::span<const float> sin_R, std::span<float> head) {
  const size_t half = cos_R.size();
  const auto turn = [&](size_t i, float& a, float& b) {
    const float x = a, y = b;
    a = x * cos_R[i] - y * sin_R[i];
    b = y * cos_R[i] + x * sin_R[i];
  };
  if (pairs == spec::RopePairs::Halves) {
    for (size_t i = 0; i < half; ++i) turn(i, head[i], head[i + half]);
  } else {
    for (size_t i = 0; i < half; ++i) turn(i, head[2 * i], head[2 * i + 1]);
  }
}

}  // namespace moiety::model
