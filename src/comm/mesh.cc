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
  check("experts", shape.experts, stage_size(), stages_ > 1 ? " of a stage" : "");
  check("sequence", shape.sequence, stage_size(), stages_ > 1 ? " of a stage" : "");
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
  if (shape.sequence > 1) sequence_ = neighbours("sequence", shape.sequence);
  if (shape.experts == 1) return;
  experts_ = neighbours("experts", shape.experts);
  const int groups = stage_size() / shape.experts;
  if (groups > 1) same_experts_ = part(all, first + place_in_stage() % shape.experts, shape.experts, groups, "same_experts");
}

}  // namespace moiety::comm
