#include "comm/stretches.h"

#include <algorithm>
#include <vector>

namespace moiety::comm {
namespace {

// Numbers of a stretch that go out at once: what an exchange takes of memory is this times the number of ranks.
constexpr size_t kAtOnce = 1 << 20;

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

}  // namespace

void sum_stretches(Group& group, std::span<float> numbers, std::span<const size_t> begin_R1) {
  std::vector<float> out, in;
  for (size_t n = 0; n < exchanges(begin_R1); ++n) {
    const auto parts = parts_of(numbers, begin_R1, n);
    const std::span<float> mine = parts[static_cast<size_t>(group.rank())];
    const std::vector<size_t> in_R(parts.size(), mine.size_bytes());
    std::vector<size_t> out_R;
    out.clear();
    for (const std::span<float> part : parts) {
      out_R.push_back(part.size_bytes());
      out.insert(out.end(), part.begin(), part.end());
    }
    in.resize(mine.size() * parts.size());
    group.all_to_all(std::as_bytes(std::span(out)), out_R, std::as_writable_bytes(std::span(in)), in_R).wait();
    for (size_t i = 0; i < mine.size(); ++i) {
      float sum = 0;
      for (size_t r = 0; r < parts.size(); ++r) sum += in[r * mine.size() + i];
      mine[i] = sum;
    }
  }
}

void share_stretches(Group& group, std::span<float> numbers, std::span<const size_t> begin_R1) {
  std::vector<float> out, in;
  for (size_t n = 0; n < exchanges(begin_R1); ++n) {
    const auto parts = parts_of(numbers, begin_R1, n);
    // All send as much as the longest part.
    const size_t longest = std::ranges::max(parts, {}, [](const auto& part) { return part.size(); }).size();
    const std::span<float> mine = parts[static_cast<size_t>(group.rank())];
    out.assign(mine.begin(), mine.end());
    out.resize(longest);
    in.resize(longest * parts.size());
    group.all_gather(std::as_bytes(std::span(out)), std::as_writable_bytes(std::span(in))).wait();
    for (size_t r = 0; r < parts.size(); ++r) std::ranges::copy(std::span(in).subspan(r * longest, parts[r].size()), parts[r].begin());
  }
}

}  // namespace moiety::comm
