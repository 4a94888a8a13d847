// Ranks by what they share. Consecutive ranks form an expert group, over which each layer's experts are spread; ranks at the same
// place of their expert groups hold the same experts. Attention and all that is dense know nothing of it: each rank has it whole, and
// all ranks sum its gradients (what Megatron-LM calls Parallel Folding: Liu et al. 2025). Consecutive ranks have parts of the same sequences,
// too, and how many has nothing to do with the experts.
#pragma once

#include <memory>

#include "comm/group.h"

namespace moiety::comm {

// Ranks that share one thing, for each.
struct MeshShape {
  int experts = 1;   // the experts of a layer
  int sequence = 1;  // sequences
};

class Mesh {
 public:
  // Collective over `all`, which must outlive this. Throws Error(Input) on every rank if something does not divide their number.
  Mesh(Group& all, const MeshShape& shape);

  Group& all() { return all_; }
  // The ranks that hold the same of what is no expert's; nullptr: no other one does.
  Group* same_dense() { return &all_; }
  // The ranks that share this one's layers; nullptr: it has all experts itself.
  Group* experts() { return experts_.get(); }
  // The ranks that hold the same experts; nullptr: no other one does.
  Group* same_experts() { return experts_ == nullptr ? same_dense() : same_experts_.get(); }
  // The ranks that have parts of this one's sequences; nullptr: it has whole ones.
  Group* sequence() { return sequence_.get(); }

 private:
  Group& all_;
  std::unique_ptr<Group> experts_, same_experts_, sequence_;
};

}  // namespace moiety::comm
