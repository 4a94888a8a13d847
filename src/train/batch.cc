#include "train/batch.h"

#include <algorithm>

namespace moiety::train {

Batch Batch::sequences(size_t first, size_t count) const {
  const size_t length = sequence > 0 ? sequence : tokens_T.size();
  const size_t begin = std::min(tokens_T.size(), first * length), end = std::min(tokens_T.size(), (first + count) * length);
  Batch part{.sequence = sequence, .first_token = first_token + begin, .draw = draw};
  part.tokens_T.assign(tokens_T.begin() + static_cast<ptrdiff_t>(begin), tokens_T.begin() + static_cast<ptrdiff_t>(end));
  part.targets_T.assign(targets_T.begin() + static_cast<ptrdiff_t>(begin), targets_T.begin() + static_cast<ptrdiff_t>(end));
  for (const Segment& segment : segments) {
    const auto at = static_cast<size_t>(segment.begin);
    if (at < begin || at >= end) continue;
    part.segments.push_back(segment);
    part.segments.back().begin -= static_cast<int>(begin);
  }
  return part;
}

size_t Batch::num_targets() const {
  return static_cast<size_t>(std::ranges::count_if(targets_T, [](int32_t target) { return target >= 0; }));
}

size_t Batch::num_sequences() const {
  const size_t length = sequence > 0 ? sequence : tokens_T.size();
  return length == 0 ? 0 : (tokens_T.size() + length - 1) / length;
}

}  // namespace moiety::train
