// How a token's router logits become visits to experts, in three named stages: score, select, weigh.
#pragma once

namespace moiety::spec {

enum class Score { Softmax, Sigmoid };

struct RouterRule {
  int num_experts = 0;
  int experts_per_token = 0;

  // Score: logits -> one score an expert.
  Score score = Score::Softmax;

  // Select: the experts_per_token largest of score + bias; ties to the lower id. The bias steers the choice and never
  // the weight (Wang et al. 2024, "Auxiliary-loss-free load balancing").
  bool has_selection_bias = false;

  // Weigh: the chosen scores, made to sum to one if `renormalise`, then times `scale`.
  bool renormalise = true;
  float scale = 1.0f;
};

}  // namespace moiety::spec
