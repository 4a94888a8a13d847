// One run through the layers: some next tokens of some sequences, a row of activations each.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "model/kv_cache.h"
#include "spec/model_spec.h"

namespace moiety::model {

// Some next tokens of one sequence, at the positions that follow what the cache holds.
struct Chunk {
  KvCache* cache = nullptr;
  std::span<const int32_t> tokens;
};

// What every layer wants to know of each row.
struct Step {
  std::vector<KvCache*> cache_T;
  std::vector<size_t> position_T;
  Matrix<float> cos_TR, sin_TR;  // of the angles that the position turns each pair of a head's numbers by

  size_t tokens() const { return cache_T.size(); }
};

// By how much a position turns each pair, in sequences within the original positions and in those that may grow beyond.
struct Frequencies {
  std::vector<float> short_R, long_R;
};
Frequencies frequencies_of(const spec::AttentionSpec& spec);

Step make_step(const spec::AttentionSpec& spec, const Frequencies& frequencies, std::span<const Chunk> chunks);

// Turns the first 2 * cos_R.size() numbers of a head.
void rotate(spec::RopePairs pairs, std::span<const float> cos_R, std::span<const float> sin_R, std::span<float> head);

}  // namespace moiety::model
