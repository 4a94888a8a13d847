#include "train/batch.h"

#include <algorithm>

namespace moiety::train {

Batch Batch::tokens(size_t first, size_t count) const {
  const size_t begin = std::min(tokens_T.size(), first), end = std::min(tokens_T.size(), first + count);
  Batch part{.first_token = first_token + begin, .ring = ring, .draw = draw};
  part.tokens_T.assign(tokens_T.begin() + static_cast<ptrdiff_t>(begin), tokens_T.begin() + static_cast<ptrdiff_t>(end));
  part.targets_T.assign(targets_T.begin() + static_cast<ptrdiff_t>(begin), targets_T.begin() + static_cast<ptrdiff_t>(end));
  for (const Segment& segment : segments) {
    const int from = std::max(segment.begin, static_cast<int>(begin)), to = std::min(segment.begin + segment.length, static_cast<int>(end));
    if (from >= to) continue;
    Segment& cut = part.segments.emplace_back(segment);
    cut.begin = from - static_cast<int>(begin);
    cut.length = to - from;
    cut.position += from - segment.begin;
    if (cut.at >= 0) cut.at += from - segment.begin;
  }
  return part;
}

Batch Batch::sequences(size_t first, size_t count) const {
  const size_t length = sequence > 0 ? sequence : tokens_T.size();
  Batch part = tokens(first * length, count * length);
  part.sequence = sequence;
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
