#include "comm/stretches.h"

#include <algorithm>
#include <array>
#include <vector>

namespace moiety::comm {
namespace {

// Numbers of a stretch that go out at once: few enough to stay in the cache on their way. From each to each all along: Gloo's own sums
// and gatherings take two to three times longer by the byte (moiety train --explain).
constexpr size_t kAtOnce = 1 << 18;

// Where in `numbers` each rank's part of the n-th exchange lies.
std::vector<std::span<float>> parts_of(std::span<float> numbers, std::span<const size_t> begin_R1, size_t n) {
  std::vector<std::span<float>> parts;
  for (size_t r = 0; r + 1 < begin_R1.size(); ++r) {
    const size_t begin = std::min(begin_R1[r + 1], begin_R1[r] + n * kAtOnce), end = std::min(begin_R1[r + 1], begin + kAtOnce);
    parts.push_back(numbers.subspan(begin, end - begin));
  }
  return parts;
}
size_t exchanges(std::span<const size_t> begin_R1) {
  size_t longest = 0;
  for (size_t r = 0; r + 1 < begin_R1.size(); ++r) longest = std::max(longest, begin_R1[r + 1] - begin_R1[r]);
  return (longest + kAtOnce - 1) / kAtOnce;
}

// Parts on their way to the others, and theirs to this rank.
struct Travelling {
  std::vector<float> out, in;
  std::vector<std::span<const float>> from_R;  // of `in`; nothing from this rank itself
  Pending pending;
};

// part_to(r) are the numbers for rank r; count_R says how many come from each.
template <class PartsTo>
void start(Group& group, Travelling& t, const PartsTo& part_to, const std::vector<size_t>& count_R) {
  const auto ranks = static_cast<size_t>(group.size()), self = static_cast<size_t>(group.rank());
  std::vector<size_t> out_R(ranks, 0), in_R(ranks, 0);
  t.out.clear();
  size_t coming = 0;
  for (size_t r = 0; r < ranks; ++r) {
    if (r == self) continue;
    const std::span<const float> part = part_to(r);
    t.out.insert(t.out.end(), part.begin(), part.end());
    out_R[r] = part.size_bytes();
    in_R[r] = count_R[r] * sizeof(float);
    coming += count_R[r];
  }
  t.in.resize(coming);
  t.from_R.assign(ranks, {});
  for (size_t r = 0, at = 0; r < ranks; ++r) {
    if (r == self) continue;
    t.from_R[r] = std::span<const float>(t.in).subspan(at, count_R[r]);
    at += count_R[r];
  }
  t.pending = group.all_to_all(std::as_bytes(std::span(t.out)), out_R, std::as_writable_bytes(std::span(t.in)), in_R);
}

// begin(n, t) starts the n-th exchange, end(n, t) works on what has come while the next one is under way.
template <class Begin, class End>
void pass_through(size_t count, const Begin& begin, const End& end) {
  std::array<Travelling, 2> t;
  for (size_t n = 0; n <= count; ++n) {
    if (n < count) begin(n, t[n % 2]);
    if (n == 0) continue;
    t[(n - 1) % 2].pending.wait();
    end(n - 1, t[(n - 1) % 2]);
  }
}

}  // namespace

void sum_stretches(Group& group, std::span<float> numbers, std::span<const size_t> begin_R1) {
  const auto ranks = static_cast<size_t>(group.size()), self = static_cast<size_t>(group.rank());
  pass_through(
      exchanges(begin_R1),
      [&](size_t n, Travelling& t) {
        const auto parts = parts_of(numbers, begin_R1, n);
        start(group, t, [&](size_t r) { return parts[r]; }, std::vector<size_t>(ranks, parts[self].size()));
      },
      [&](size_t n, Travelling& t) {
        const std::span<float> mine = parts_of(numbers, begin_R1, n)[self];
        t.from_R[self] = mine;
        std::vector<float> sum(t.from_R[0].begin(), t.from_R[0].end());
        for (size_t r = 1; r < ranks; ++r) {
          for (size_t i = 0; i < sum.size(); ++i) sum[i] += t.from_R[r][i];
        }
        std::ranges::copy(sum, mine.begin());
      });
}

void share_stretches(Group& group, std::span<float> numbers, std::span<const size_t> begin_R1) {
  const auto self = static_cast<size_t>(group.rank());
  pass_through(
      exchanges(begin_R1),
      [&](size_t n, Travelling& t) {
        const auto parts = parts_of(numbers, begin_R1, n);
        std::vector<size_t> count_R;
        for (const std::span<float> part : parts) count_R.push_back(part.size());
        start(group, t, [&](size_t) { return parts[self]; }, count_R);
      },
      [&](size_t n, Travelling& t) {
        const auto parts = parts_of(numbers, begin_R1, n);
        for (size_t r = 0; r < parts.size(); ++r) std::ranges::copy(t.from_R[r], parts[r].begin());
      });
}

}  // namespace moiety::comm
