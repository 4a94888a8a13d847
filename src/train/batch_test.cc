#include "train/batch.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include "base/random.h"

namespace moiety::train {
namespace {

// Sequences of packed documents; some positions have no target.
Batch random_batch(uint64_t seed, size_t sequences, size_t length) {
  Random random(seed, 0);
  Batch batch{.sequence = length, .draw = 7};
  for (size_t t = 0; t < sequences * length; ++t) {
    batch.tokens_T.push_back(static_cast<int32_t>(random.next() % 100));
    batch.targets_T.push_back(random.next() % 5 == 0 ? -1 : static_cast<int32_t>(random.next() % 100));
    const bool begins = t % length == 0 || random.next() % 4 == 0;
    if (begins) batch.segments.push_back({static_cast<int>(t), 0, static_cast<int>(random.next() % 3)});
    ++batch.segments.back().length;
  }
  return batch;
}

RC_GTEST_PROP(Batch, PartsMakeUpTheWhole, (uint64_t seed)) {
  const size_t sequences = *rc::gen::inRange<size_t>(1, 9), length = *rc::gen::inRange<size_t>(1, 20), ranks = *rc::gen::inRange<size_t>(1, 9);
  const Batch whole = random_batch(seed, sequences, length);
  RC_ASSERT(whole.num_sequences() == sequences);
  Batch joined{.sequence = length};
  size_t targets = 0;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const size_t first = sequences * rank / ranks, end = sequences * (rank + 1) / ranks;
    const Batch part = whole.sequences(first, end - first);
    RC_ASSERT(part.first_token == joined.tokens_T.size());
    RC_ASSERT(part.draw == whole.draw);
    for (const Segment& segment : part.segments) {
      joined.segments.push_back({segment.begin + static_cast<int>(part.first_token), segment.length, segment.domain});
    }
    joined.tokens_T.insert(joined.tokens_T.end(), part.tokens_T.begin(), part.tokens_T.end());
    joined.targets_T.insert(joined.targets_T.end(), part.targets_T.begin(), part.targets_T.end());
    targets += part.num_targets();
  }
  RC_ASSERT(joined.tokens_T == whole.tokens_T);
  RC_ASSERT(joined.targets_T == whole.targets_T);
  RC_ASSERT(targets == whole.num_targets());
  RC_ASSERT(joined.segments.size() == whole.segments.size());
  for (size_t i = 0; i < joined.segments.size(); ++i) {
    RC_ASSERT(joined.segments[i].begin == whole.segments[i].begin);
    RC_ASSERT(joined.segments[i].length == whole.segments[i].length);
    RC_ASSERT(joined.segments[i].domain == whole.segments[i].domain);
  }
}

}  // namespace
}  // namespace moiety::train
