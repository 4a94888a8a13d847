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

Mesh::Mesh(Group& all, const MeshShape& shape) : all_(all) {
  const auto check = [&](const char* name, int ranks) {
    require(all.size() % ranks == 0, "ranks.{} is {}, which does not divide {} ranks into groups of as many", name, ranks, all.size());
  };
  check("experts", shape.experts);
  check("sequence", shape.sequence);
  const auto neighbours = [&](const char* what, int ranks) { return part(all, all.rank() - all.rank() % ranks, 1, ranks, what); };
  if (shape.sequence > 1) sequence_ = neighbours("sequence", shape.sequence);
  if (shape.experts == 1) return;
  experts_ = neighbours("experts", shape.experts);
  const int place = all.rank() % shape.experts, groups = all.size() / shape.experts;
  if (groups > 1) same_experts_ = part(all, place, shape.experts, groups, "same_experts");
}

}  // namespace moiety::comm
