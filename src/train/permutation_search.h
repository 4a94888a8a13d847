// COMET's local search (Ibrahim et al. 2023): which expert stands behind which output of the gate is learnt too, while everything else
// is. Gradients alone seldom exchange two experts, whatever the gate; a permutation P between them can, as the layer computes
//
//   sum over j of f_j(x) * sum over i of g_i(x) P_ij
//
// P is relaxed: Sinkhorn's of (A + Gumbel noise) / temperature, with the matrix A learnt by gradients. Over the steps of the search the
// temperature falls by 10^4 and the rounds of Sinkhorn rise from 20 to 150; then the permutation that A is worth most for stays.
//
// The paper keeps that one beside the gate. Here the experts themselves change places as soon as another permutation is worth more, and
// A's columns with them: the best one is always the identity. So every gate is served as it is, at any moment and with no permutation.
#pragma once

#include <string>
#include <vector>

#include "format/tensor.h"
#include "train/config.h"
#include "train/loops.h"
#include "train/weights.h"

namespace moiety::train {

class PermutationSearch {
 public:
  // Of routers with so many experts each.
  PermutationSearch(const TrainConfig::Anneal& config, uint64_t seed, const std::vector<int>& experts_R);

  // Before a step, counted from the search's beginning: the shares P of each router, and zeros where their gradients go.
  const std::vector<WeightMatrix>& relax(int64_t step);

  // After it: one step of Adam. For each router, which expert is to come to each place; empty if all stay.
  std::vector<std::vector<int32_t>> follow(int64_t step, const AdamStep& adam);

  // For a checkpoint: f32 tensors that look into this object. read_state() throws unless all are there with their shapes.
  std::vector<format::TensorView> state_tensors();
  void read_state(const std::vector<format::TensorView>& tensors, const std::string& where);

 private:
  struct Router {
    Matrix<float> worth_EE, first_EE, second_EE;  // A and its moments
    Matrix<float> share_EE, gradient_EE;
  };
  Matrix<double> noisy_worth(size_t router, int64_t step) const;
  double progress(int64_t step) const;
  double temperature(int64_t step) const;
  int rounds(int64_t step) const;

  TrainConfig::Anneal config_;
  uint64_t seed_;
  std::vector<Router> routers_;
  std::vector<WeightMatrix> shares_;
};

}  // namespace moiety::train
