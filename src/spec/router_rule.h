// Where a token's router logits come from, the gate; and how they become visits to experts, in three named stages: score,
// select, weigh.
#pragma once

#include <algorithm>
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

// What a logit goes through before it is scored (Nguyen et al. 2024, "Is temperature sample efficient for softmax Gaussian
// mixture of experts?").
enum class LogitActivation { None, Tanh, Sigmoid, Silu };

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

// Which experts a token visits, by falling key = score + selection bias, ties to the lower id.
enum class Select {
  TopK,          // the first experts_per_token; of the best groups, if there are groups. Switch: of one
  Grouped,       // the first experts_per_token / num_groups of each group (Tang et al. 2025, "Pangu Pro MoE")
  TopP,          // the smallest prefix whose scores reach top_p, of at most experts_per_token (Huang et al. 2024, "Harder
                 // tasks need more experts")
  Threshold,     // all whose key reaches `threshold`; at least one, at most experts_per_token
  ExpertChoice,  // in training each expert takes the tokens that score highest at it, experts_per_token a token on average
                 // (Zhou et al. 2022). Later tokens would have a say in that, so a model is served by what the bias has
                 // learnt of the experts' cut-offs: all whose key reaches 0, which may be none
  Tsallis,       // by the Tsallis entropy of a token's scores: above `soft_entropy` all experts; else the prefix that
                 // reaches top_p, or experts_per_token if those are more (Li et al. 2025, "DynMoLE")
};

enum class Weigh {
  Scores,       // the chosen scores
  SparseMixer,  // each by a softmax over the experts that come close to it (Liu et al. 2024, "GRIN"; Phi-3.5-MoE)
};

// Experts that cost nothing, chosen among the others: their ids follow the real experts', kind by kind in this order.
enum class ZeroCost {
  Null,      // gives nothing, and the others share its weight (Zeng et al. 2024, "AdaMoE")
  Zero,      // gives nothing (this and the next: Jin et al. 2024, "MoE++")
  Copy,      // gives its input
  Constant,  // a1 x + a2 v, a = softmax(W x), with v and W of its own
};

struct RouterRule {
  int num_experts = 0;  // the real ones, which are weights on a disk and rows in a trace
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

  // Score: logits -> one score a choice: activation(logit) / temperature goes into `score`.
  LogitActivation logit_activation = LogitActivation::None;
  float temperature = 1.0f;
  Score score = Score::Softmax;
  // A layer's logits get those of the MoE layer before, times a learnt matrix (MoE++).
  bool gating_residual = false;

  // Select. The bias steers the choice and never the weight (Wang et al. 2024, "Auxiliary-loss-free load balancing").
  Select select = Select::TopK;
  bool has_selection_bias = false;
  // Of num_groups groups of neighbouring experts only the groups_per_token best take part, ties to the lower group
  // (DeepSeek-AI 2024, "DeepSeek-V2"). 1 of 1: all do.
  int num_groups = 1;
  int groups_per_token = 1;
  GroupScore group_score = GroupScore::Best;
  float top_p = 0.5f;
  float threshold = 0.0f;
  float tsallis_q = 1.1f;  // 1: Shannon's entropy
  float soft_entropy = 0.9f;  // as a share of the entropy of equal scores
  // How many experts of each kind cost nothing.
  int null_experts = 0, zero_experts = 0, copy_experts = 0, constant_experts = 0;

  // Weigh: the chosen scores, made to sum to one if `renormalise`, then times `scale`.
  Weigh weigh = Weigh::Scores;
  bool renormalise = true;
  float scale = 1.0f;
  // SparseMixer: an expert whose logit lies further below the chosen one's than this part of it doesn't come close.
  float sparse_mixer_reach = 0.02f;

  int zero_cost_experts() const { return null_experts + zero_experts + copy_experts + constant_experts; }
  // What a token chooses among: as many logits has a router.
  int num_choices() const { return num_experts + zero_cost_experts(); }
  // Of the choice with this id, which is none of the real experts.
  ZeroCost kind_of(int choice) const {
    const int i = choice - num_experts;
    return i < null_experts                                 ? ZeroCost::Null
           : i < null_experts + zero_experts                ? ZeroCost::Zero
           : i < null_experts + zero_experts + copy_experts ? ZeroCost::Copy
                                                            : ZeroCost::Constant;
  }
  int first_constant() const { return num_choices() - constant_experts; }
  // The most choices, and the most real experts, that one token may have.
  int most_choices() const {
    return select == Select::ExpertChoice || select == Select::Tsallis ? num_choices() : experts_per_token;
  }
  int most_experts() const { return std::min(most_choices(), num_experts); }
};

}  // namespace moiety::spec
