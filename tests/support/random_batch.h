// Tokens without meaning, to train on.
#pragma once

#include "base/random.h"
#include "spec/model_spec.h"
#include "train/batch.h"

namespace moiety::test {

// Sequences of 14 tokens, each of some documents; some positions have no target.
inline train::Batch random_batch(const spec::ModelSpec& spec, size_t sequences, Random& random) {
  constexpr int kSequence = 14;
  train::Batch batch{.sequence = kSequence};
  for (; sequences > 0; --sequences) {
    for (int left = kSequence; left > 0;) {
      const int length = 1 + static_cast<int>(random.below(static_cast<uint64_t>(left)));
      batch.segments.push_back({batch.num_tokens(), length});
      for (int i = 0; i < length; ++i) {
        batch.tokens_T.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size))));
        batch.targets_T.push_back(random.below(5) == 0 ? -1 : static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size))));
      }
      left -= length;
    }
  }
  batch.targets_T[0] = 1;
  return batch;
}

}  // namespace moiety::test
