#include "train/recompute.h"

namespace moiety::train {

tensor_list recompute_later(const tensor_list& inputs, const tensor_list& outputs,
                            std::function<tensor_list(const tensor_list&)> again) {
  return record(inputs, outputs, [inputs, again = std::move(again)](const tensor_list& gradients) {
    const torch::AutoGradMode with_graph(true);
    tensor_list leaves;
    for (const Tensor& input : inputs) leaves.push_back(input.detach().requires_grad_());
    tensor_list made, dmade;  // of what depends on the inputs: the losses of a gate that is not learnt do not
    const tensor_list all = again(leaves);
    for (size_t i = 0; i < all.size(); ++i) {
      if (!all[i].requires_grad()) continue;
      made.push_back(all[i]);
      dmade.push_back(gradients[i]);
    }
    return torch::autograd::grad(made, leaves, dmade);
  });
}

}  // namespace moiety::train
