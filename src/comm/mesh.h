// Ranks by what they share. Consecutive ranks form an expert group, over which each layer's experts are spread; ranks at the same
// place of their expert groups hold the same experts. Consecutive ranks share dense matrices and have parts of the same sequences, too, and
// how many has nothing to do with the experts (what Megatron-LM calls Parallel Folding: Liu et al. 2025). What is neither an expert's
// nor shared out each rank has whole, and all ranks sum its gradients.
#pragma once

#include <memory>

#include "comm/group.h"

namespace moiety::comm {

// Ranks that share one thing, for each.
struct MeshShape {
  int tensor = 1;    // dense matrices, and the tokens that they see
  int experts = 1;   // the experts of a layer
  int sequence = 1;  // sequences
};

class Mesh {
 public:
  // Collective over `all`, which must outlive this. Throws Error(Input) on every rank if something does not divide their number.
  Mesh(Group& all, const MeshShape& shape);

  Group& all() { return all_; }
  // The ranks that hold the same of what is neither an expert's nor shared out; nullptr: no other one does.
  Group* same_dense() { return &all_; }
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
  std::unique_ptr<Group> tensor_, same_tensor_, experts_, same_experts_, sequence_;
};

}  // namespace moiety::comm
