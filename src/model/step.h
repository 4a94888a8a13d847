// One run through the layers: some next tokens of some sequences, a row of activations each.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/kv_cache.h"
#include "model/router_override.h"
#include "spec/model_spec.h"

namespace moiety::model {

// Some next tokens of one sequence, at the positions that follow what the cache holds.
struct Chunk {
  KvCache* cache = nullptr;
  std::span<const int32_t> tokens;
  size_t logits = 1;                       // of how many of the tokens, the last ones, logits are wanted
  const RouterOverride* router = nullptr;  // if these tokens choose experts otherwise than the model says
  Matrix<float>* states_TD = nullptr;      // takes the tokens' activations after the last layer and its norm
};

// Rows of a step that are one sequence's.
struct StepPart {
  KvCache* cache = nullptr;
  size_t first_token = 0, tokens = 0;
  size_t first_position = 0;
  const RouterOverride* router = nullptr;
};

// What every layer wants to know of each row.
struct Step {
  std::vector<StepPart> parts;
  // The parts cut into pieces for threads to share: positions whose keys lie together in a cache.
  std::vector<StepPart> pieces;
  std::vector<size_t> position_T;
  std::vector<int32_t> token_T;  // ids
  Matrix<float> cos_TR, sin_TR;  // of the angles that the position turns each pair of a head's numbers by

  size_t tokens() const { return position_T.size(); }
};

// By how much a position turns each pair, in sequences within the original positions and in those that may grow beyond.
struct Frequencies {
  std::vector<float> short_R, long_R;
};
Frequencies frequencies_of(const spec::AttentionSpec& spec);

// Makes room in the chunks' caches. Throws Error(Input) if their pool has not enough, which who shares it out sees to before.
Step make_step(const spec::AttentionSpec& spec, const Frequencies& frequencies, std::span<const Chunk> chunks);

// Calls body(part, token, position) for all tokens, a piece at a time, on all threads.
void for_each_token(const kernel::Compute& compute, const Step& step,
                    const std::function<void(const StepPart& part, size_t token, size_t position)>& body);

// Turns the first 2 * cos_R.size() numbers of a head.
void rotate(spec::RopePairs pairs, std::span<const float> cos_R, std::span<const float> sin_R, std::span<float> head);

}  // namespace moiety::model
