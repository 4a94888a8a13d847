// Ranks by what they share. Consecutive ranks form a stage, which has some of the layers; all that follows is within one. Consecutive
// ranks form an expert group, over which each layer's experts are spread; ranks at the same
// place of their expert groups hold the same experts. Attention and all that is dense know nothing of it: each rank has it whole, and
// all ranks of the stage sum its gradients (what Megatron-LM calls Parallel Folding: Liu et al. 2025). Consecutive ranks have parts of the
// same sequences, too, and how many has nothing to do with the experts.
#pragma once

#include <memory>

#include "comm/group.h"

namespace moiety::comm {

// Ranks that share one thing, for each; but for stages, of which this is the number.
struct MeshShape {
  int stages = 1;
  int experts = 1;   // the experts of a layer
  int sequence = 1;  // sequences
};

class Mesh {
 public:
  // Collective over `all`, which must outlive this. Throws Error(Input) on every rank if something does not divide their number.
  Mesh(Group& all, const MeshShape& shape);

  Group& all() { return all_; }
  int stages() const { return stages_; }
  int stage() const { return all_.rank() / stage_size(); }
  int stage_size() const { return all_.size() / stages_; }
  int place_in_stage() const { return all_.rank() % stage_size(); }
  // The rank of all that has this one's place in another stage.
  int rank_in(int stage) const { return stage * stage_size() + place_in_stage(); }

  // The ranks that hold the same of what is no expert's; nullptr: no other one does.
  Group* same_dense() { return stages_ == 1 ? &all_ : stage_.get(); }
  // Those of the first and of the last stage, if this is one of them; else nullptr.
  Group* both_ends() { return stages_ <= 2 ? &all_ : both_ends_.get(); }
  // The ranks that share this one's layers; nullptr: it has all experts itself.
  Group* experts() { return experts_.get(); }
  // The ranks that hold the same experts; nullptr: no other one does.
  Group* same_experts() { return experts_ == nullptr ? same_dense() : same_experts_.get(); }
  // The ranks that have parts of this one's sequences; nullptr: it has whole ones.
  Group* sequence() { return sequence_.get(); }

 private:
  Group& all_;
  int stages_;
  std::unique_ptr<Group> stage_, both_ends_, experts_, same_experts_, sequence_;
};

}  // namespace moiety::comm
