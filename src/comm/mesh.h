// Ranks by what they share. Consecutive ranks form a stage, which has some of the layers; all that follows is within one. Consecutive
// ranks form an expert group, over which each layer's experts are spread; ranks at the same place of their expert groups hold the same
// experts. Consecutive ranks share dense matrices and have parts of the same sequences, too, and how many has nothing to do with the
// experts (what Megatron-LM calls Parallel Folding: Liu et al. 2025). What is neither an expert's nor shared out each rank of a stage has
// whole, and all of them sum its gradients.
#pragma once

#include <memory>

#include "comm/group.h"

namespace moiety::comm {

// Ranks that share one thing, for each; but for stages, of which this is the number.
struct MeshShape {
  int stages = 1;
  int tensor = 1;    // dense matrices, and the tokens that they see
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

  // The ranks that hold the same of what is neither an expert's nor shared out; nullptr: no other one does.
  Group* same_dense() { return stages_ == 1 ? &all_ : stage_.get(); }
  // Those of the first and of the last stage, if this is one of them; else nullptr.
  Group* both_ends() { return stages_ <= 2 ? &all_ : both_ends_.get(); }
  // The ranks that share dense matrices with this one: neighbours; nullptr: it has them whole.
  Group* tensor() { return tensor_.get(); }
  // The ranks that hold the same slices of them; nullptr: no other one does.
  Group* same_tensor() { return tensor_ == nullptr ? same_dense() : same_tensor_.get(); }
  // The ranks that share this one's layers; nullptr: it has all experts itself.
  Group* experts() { return experts_.get(); }
  // The ranks that hold the same experts; nullptr: no other one does.
  Group* same_experts() { return experts_ == nullptr ? same_dense() : same_experts_.get(); }
  // The ranks that have parts of this one's sequences, and the same slices; nullptr: it has whole ones.
  Group* sequence() { return sequence_.get(); }

 private:
  Group& all_;
  int stages_;
  std::unique_ptr<Group> stage_, both_ends_, tensor_, same_tensor_, experts_, same_experts_, sequence_;
};

}  // namespace moiety::comm
