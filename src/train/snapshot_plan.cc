#include "train/snapshot_plan.h"

#include <algorithm>

namespace moiety::train {
namespace {

constexpr size_t kTogether = 1 << 16;  // numbers that are kept or written by the same ranks, at most

// body(stretch, holders) for stretches of a tensor that the same ranks have, ascending and short.
template <class Body>
void for_each_held(const std::vector<Part>& part_W, const Body& body) {
  std::vector<size_t> ends;
  for (const Part& part : part_W) {
    for (const Stretch& stretch : part.stretches()) {
      ends.push_back(stretch.begin);
      ends.push_back(stretch.end());
    }
  }
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  std::vector<size_t> next_W(part_W.size(), 0);
  for (size_t i = 0; i + 1 < ends.size(); ++i) {
    std::vector<int> holders;
    for (size_t rank = 0; rank < part_W.size(); ++rank) {
      const std::vector<Stretch>& stretches = part_W[rank].stretches();
      size_t& next = next_W[rank];
      while (next < stretches.size() && stretches[next].end() <= ends[i]) ++next;
      if (next < stretches.size() && stretches[next].begin <= ends[i]) holders.push_back(static_cast<int>(rank));
    }
    if (holders.empty()) continue;
    for (size_t begin = ends[i]; begin < ends[i + 1]; begin += kTogether) body(Stretch{begin, std::min(kTogether, ends[i + 1] - begin)}, holders);
  }
}

}  // namespace

SnapshotPlan plan_snapshot(const std::vector<std::vector<Part>>& part_NW, int rank) {
  SnapshotPlan plan;
  size_t turn = 0;
  for (const std::vector<Part>& part_W : part_NW) {
    Part &own = plan.own_N.emplace_back(), &to_next = plan.to_next_N.emplace_back(), &from_previous = plan.from_previous_N.emplace_back();
    const int ranks = static_cast<int>(part_W.size());
    for_each_held(part_W, [&](const Stretch& stretch, const std::vector<int>& holders) {
      const size_t first = turn++ % holders.size(), second = (first + 1) % holders.size();
      if (holders[first] == rank || holders[second] == rank) own.add(stretch);
      if (holders.size() > 1 || ranks == 1) return;
      if (holders[0] == rank) to_next.add(stretch);
      if ((holders[0] + 1) % ranks == rank) from_previous.add(stretch);
    });
  }
  return plan;
}

std::vector<Part> plan_writing(const std::vector<std::vector<Part>>& part_NW, int rank) {
  std::vector<Part> written;
  size_t turn = 0;
  for (const std::vector<Part>& part_W : part_NW) {
    Part& mine = written.emplace_back();
    for_each_held(part_W, [&](const Stretch& stretch, const std::vector<int>& holders) {
      if (holders[turn++ % holders.size()] == rank) mine.add(stretch);
    });
  }
  return written;
}

}  // namespace moiety::train
