// How a token's router logits become visits to experts, in three named stages: score, select, weigh.
#pragma once

namespace moiety::spec {

enum class Score {
  Softmax,
  Sigmoid,
  Logits,  // as they are
};

// What a group of experts is worth to a token.
enum class GroupScore {
  Best,     // its best expert's score (DeepSeek-V2)
  BestTwo,  // the sum of its two best (DeepSeek-V3)
};

enum class Weigh {
  Scores,       // the chosen scores
  SparseMixer,  // each by a softmax over the experts that come close to it (Liu et al. 2024, "GRIN"; Phi-3.5-MoE)
};

struct RouterRule {
  int num_experts = 0;
  int experts_per_token = 0;

  // Score: logits -> one score an expert.
  Score score = Score::Softmax;

  // Select: the experts_per_token largest of score + bias; ties to the lower id. The bias steers the choice and never
  // the weight (Wang et al. 2024, "Auxiliary-loss-free load balancing").
  bool has_selection_bias = false;
  // Of num_groups groups of neighbouring experts only the groups_per_token best take part, ties to the lower group
  // (DeepSeek-AI 2024, "DeepSeek-V2"). 1 of 1: all do.
  int num_groups = 1;
  int groups_per_token = 1;
  GroupScore group_score = GroupScore::Best;

  // Weigh: the chosen scores, made to sum to one if `renormalise`, then times `scale`.
  Weigh weigh = Weigh::Scores;
  bool renormalise = true;
  float scale = 1.0f;
  // SparseMixer: an expert whose logit lies further below the chosen one's than this part of it doesn't come close.
  float sparse_mixer_reach = 0.02f;
};

}  // namespace moiety::spec
