#include "train/recompute.h"

namespace moiety::train {

tensor_list recompute_later(const tensor_list& inputs, const tensor_list& outputs,
                            std::function<tensor_list(const tensor_list&)> again) {
  return record(inputs, outputs, [inputs, again = std::move(again)](const tensor_list& gradients) {
    const torch::AutoGradMode with_graph(true);
    tensor_list leaves;
    for (const Tensor& input : inputs) leaves.push_back(input.detach().requires_grad_());
    return torch::autograd::grad(again(leaves), leaves, gradients);
  });
}

}  // namespace moiety::train
