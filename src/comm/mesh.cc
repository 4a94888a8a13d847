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
  check("tensor", shape.tensor);
  check("sequence", shape.sequence);
  check("experts", shape.experts);
  const int document = shape.tensor * shape.sequence;  // ranks that have parts of the same documents
  require(all.size() % document == 0, "ranks.tensor times ranks.sequence is {}, which does not divide {} ranks into groups of as many", document,
          all.size());
  const auto neighbours = [&](const char* what, int ranks) { return part(all, all.rank() - all.rank() % ranks, 1, ranks, what); };
  const auto at_same_place = [&](const char* what, int ranks) {
    return ranks < all.size() ? part(all, all.rank() % ranks, ranks, all.size() / ranks, what) : nullptr;
  };
  if (shape.tensor > 1) {
    tensor_ = neighbours("tensor", shape.tensor);
    same_tensor_ = at_same_place("same_tensor", shape.tensor);
  }
  if (shape.sequence > 1) {
    const int first = all.rank() - all.rank() % document + all.rank() % shape.tensor;
    sequence_ = part(all, first, shape.tensor, shape.sequence, "sequence");
  }
  if (shape.experts > 1) {
    experts_ = neighbours("experts", shape.experts);
    same_experts_ = at_same_place("same_experts", shape.experts);
  }
}

}  // namespace moiety::comm
