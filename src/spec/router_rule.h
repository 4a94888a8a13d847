// Where a token's router logits come from, the gate; and how they become visits to experts, in three named stages: score,
// select, weigh.
#pragma once

#include <cstdint>

namespace moiety::spec {

// What makes of a token one logit an expert. x is the layer's normed input.
enum class Gate {
  Linear,     // router x
  Cosine,     // of the angle between each expert's embedding and a projection of x (Chi et al. 2022, "X-MoE")
  Hash,       // nothing of x: experts by a hash of the token's id (Roller et al. 2021, "Hash Layers")
  Random,     // nothing at all: experts by chance (Zuo et al. 2022, "THOR")
  Recurrent,  // router h, where h is the state of a GRU that goes from layer to layer (Qiu et al. 2024, "RMoE")
  Tree,       // experts_per_token soft decision trees, whose leaves are experts (Ibrahim et al. 2023, "COMET")
  Ahead,      // router x of the MoE layer before; the first one's of its own (Hwang et al. 2024, "Pre-gated MoE")
  Decoupled,  // all layers' at once, by a small transformer of its own over the embeddings (Cai et al. 2024, "Read-ME")
};

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

  // Gate: a token -> one logit an expert.
  Gate gate = Gate::Linear;
  int gate_width = 0;                    // of Cosine's projection, Recurrent's state, Decoupled's hidden layer
  float gate_temperature = 0.07f;        // that Cosine divides by
  bool gate_learns_temperature = false;  // times exp of a learnt number
  float gate_step = 1.0f;                // width of the interval in which Tree's decisions are soft
  int64_t gate_seed = 0;                 // of Hash and Random

  // Whether the logits are what some weights make of the token, so that there is something to learn and to bias.
  bool is_learnt() const { return gate != Gate::Hash && gate != Gate::Random; }

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
