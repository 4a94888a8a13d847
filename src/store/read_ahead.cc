#include "store/read_ahead.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace moiety::store {
namespace {

// What a new measurement counts against all before it.
constexpr double kNew = 0.05;
constexpr size_t kMost = 64;
// Where fewer than this come to use, even a disk with nothing else to do is left alone.
constexpr double kLeastPrecision = 0.3;

void blend(double& value, double measured) { value += kNew * (measured - value); }

}  // namespace

size_t ReadAhead::kind(size_t tokens) { return std::min<size_t>(std::bit_width(tokens), 23); }

void ReadAhead::learn(size_t tokens, size_t expected, size_t right, double idle_seconds) {
  Kind& k = kinds_[kind(tokens)];
  if (!k.is_known) k = {true, expected > 0 ? static_cast<double>(right) / static_cast<double>(expected) : 0, idle_seconds};
  if (expected > 0) blend(k.precision, static_cast<double>(right) / static_cast<double>(expected));
  blend(k.idle_seconds, idle_seconds);
}

void ReadAhead::learn_read(double seconds) {
  if (read_seconds_ == 0) read_seconds_ = seconds;
  blend(read_seconds_, seconds);
}

size_t ReadAhead::limit(size_t tokens) const {
  const Kind& k = kinds_[kind(tokens)];
  if (!k.is_known || read_seconds_ <= 0 || k.precision < kLeastPrecision) return 0;
  size_t count = 0;
  while (count < kMost) {
    // Of this one's time so much would have been idle, the rest is others'.
    const double idle = std::clamp(k.idle_seconds - static_cast<double>(count) * read_seconds_, 0.0, read_seconds_);
    if (k.precision * idle <= (1 - k.precision) * (read_seconds_ - idle)) break;
    ++count;
  }
  return count;
}

}  // namespace moiety::store
