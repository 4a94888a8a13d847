#include "comm/mesh.h"

#include <fmt/core.h>

#include "base/error.h"

namespace moiety::comm {
namespace {

std::unique_ptr<Group> part(const Group& all, int first, int step, int count, const char* what) {
  std::vector<int> members;
  for (int i = 0; i < count; ++i) members.push_back(first + i * step);
  return std::make_unique<Group>(all, members, fmt::format("{}{}by{}", what, first, count));
}

}  // namespace

Mesh::Mesh(Group& all, int experts, int sequence) : all_(all) {
  require(all.size() % experts == 0, "ranks.experts is {}, which does not divide {} ranks into groups of as many", experts, all.size());
  require(all.size() % sequence == 0, "ranks.sequence is {}, which does not divide {} ranks into groups of as many", sequence, all.size());
  if (sequence > 1) sequence_ = part(all, all.rank() - all.rank() % sequence, 1, sequence, "sequence");
  if (experts == 1) return;
  const int place = all.rank() % experts, groups = all.size() / experts;
  experts_ = part(all, all.rank() - place, 1, experts, "experts");
  if (groups > 1) same_experts_ = part(all, place, experts, groups, "same_experts");
}

Group* Mesh::same_experts() { return experts_ == nullptr ? &all_ : same_experts_.get(); }

}  // namespace moiety::comm
