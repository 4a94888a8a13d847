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

Mesh::Mesh(Group& all, const MeshShape& shape) : all_(all), stages_(shape.stages) {
  const auto check = [](const char* name, int ranks, int whole, const char* of) {
    require(whole % ranks == 0, "ranks.{} is {}, which does not divide {} ranks{} into groups of as many", name, ranks, whole, of);
  };
  require(all.size() % stages_ == 0, "ranks.stages is {}, which does not divide {} ranks", stages_, all.size());
  const char* const of = stages_ > 1 ? " of a stage" : "";
  check("tensor", shape.tensor, stage_size(), of);
  check("experts", shape.experts, stage_size(), of);
  check("sequence", shape.sequence, stage_size(), of);
  const int document = shape.tensor * shape.sequence;  // ranks that have parts of the same documents
  require(stage_size() % document == 0, "ranks.tensor times ranks.sequence is {}, which does not divide {} ranks{} into groups of as many", document,
          stage_size(), of);
  const int first = rank_in(stage()) - place_in_stage();
  if (stages_ > 1 && stage_size() > 1) stage_ = part(all, first, 1, stage_size(), "stage");
  if (stages_ > 2 && (stage() == 0 || stage() == stages_ - 1)) {
    std::vector<int> ends;
    for (const int end : {0, stages_ - 1}) {
      for (int i = 0; i < stage_size(); ++i) ends.push_back(end * stage_size() + i);
    }
    both_ends_ = std::make_unique<Group>(all, ends, "both_ends");
  }
  const auto neighbours = [&](const char* what, int ranks) { return part(all, all.rank() - all.rank() % ranks, 1, ranks, what); };
  const auto at_same_place = [&](const char* what, int ranks) {
    return ranks < stage_size() ? part(all, first + place_in_stage() % ranks, ranks, stage_size() / ranks, what) : nullptr;
  };
  if (shape.tensor > 1) {
    tensor_ = neighbours("tensor", shape.tensor);
    same_tensor_ = at_same_place("same_tensor", shape.tensor);
  }
  if (shape.sequence > 1) sequence_ = part(all, all.rank() - all.rank() % document + all.rank() % shape.tensor, shape.tensor, shape.sequence, "sequence");
  if (shape.experts > 1) {
    experts_ = neighbours("experts", shape.experts);
    same_experts_ = at_same_place("same_experts", shape.experts);
  }
}

}  // namespace moiety::comm
