// What a model is: sizes, norms, positions, layers. Plain data; every family that moiety reads becomes one of these,
// and the forward pass knows nothing else of a family.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "spec/rope.h"
#include "spec/router_rule.h"

namespace moiety::spec {

// RMS norm of queries and keys before the rotary embedding.
enum class QkNorm {
  None,
  PerHead,  // each head's head_dim numbers, one weight of [head_dim] (Qwen3)
  Whole,    // all heads together, one weight of [heads * head_dim] (OLMoE)
};

// Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2"): keys and values of all heads are projections of one small
// vector a token, which is all that is kept. A head's query and key are `plain_dim` numbers without a position and
// `rope_dim` rotated ones; the rotated key is shared by all heads.
struct LatentSpec {
  int query_rank = 0;  // queries go through a vector of this size; 0: they don't
  int kv_rank = 0;
  int plain_dim = 0;
  int rope_dim = 0;
  int value_dim = 0;  // of a head
};

// What makes weights of the scores s of a query with the positions up to its own.
enum class AttentionWeigh {
  Softmax,
  // The nearest position breaks off sigmoid(s) of a stick of length one, the next the same part of what is left, and so on to the first;
  // the rest goes to nobody (Shen et al. 2023, "ModuleFormer"). Near and far differ by that, and nothing is rotated.
  StickBreaking,
};

// Queries and outputs of attention as experts, of which a token takes some; keys and values are the layer's (Zhang et al. 2022,
// "Mixture of attention heads"; Shen et al. 2024, "JetMoE"). A token's heads are those of its experts, in the order of its choice.
struct AttentionExperts {
  int num_experts = 0;
  int experts_per_token = 0;

  // Softmax over all, the chosen ones made to sum to one.
  RouterRule rule() const { return {.num_experts = num_experts, .experts_per_token = experts_per_token}; }
};

struct AttentionSpec {
  int num_heads = 0;  // that a token has
  int num_kv_heads = 0;
  int head_dim = 0;  // of queries and keys
  std::optional<LatentSpec> latent;
  std::optional<AttentionExperts> experts;
  QkNorm qk_norm = QkNorm::None;
  bool qkv_bias = false;
  bool output_bias = false;
  AttentionWeigh weigh = AttentionWeigh::Softmax;
  bool sinks = false;  // a learnt logit a head takes part in the softmax and stands for nothing (gpt-oss)
  RopeSpec rope;
  float score_scale = 0;   // of query times key; 0: 1 / sqrt(head_dim)
  int sliding_window = 0;  // tokens a query sees, itself included; 0: all
  std::vector<bool> windowed;  // which layers have the window; empty: all
  float clip_qkv = 0;          // queries, keys and values are clamped to +-this; 0: never

  bool is_rotated() const { return weigh == AttentionWeigh::Softmax; }
  int expert_heads() const { return experts ? num_heads / experts->experts_per_token : num_heads; }  // of one expert
  // A router's own attention, the layer after all, has it too.
  int window(int layer) const {
    return windowed.empty() || layer >= static_cast<int>(windowed.size()) || windowed[layer] ? sliding_window : 0;
  }
  // How many numbers of a query or key head the rotary embedding turns.
  int rope_dim() const { return latent ? latent->rope_dim : rope.dim > 0 ? rope.dim : head_dim; }
  float scale() const;
};

// What an expert does between its projections.
enum class Activation {
  SwiGlu,         // silu(gate) * up
  ClampedSwiGlu,  // gate * sigmoid(1.702 gate) * (up + 1), gate at most 7, up within +-7 (gpt-oss)
};

// What MoE layers add to the residual stream, when their outputs are taken for steps of an optimizer from layer to layer (Teo and
// Nguyen 2024, "MomentumSMoE"). Of a layer's output y, with p and v from the MoE layer before, 0 in the first:
enum class Momentum {
  None,       // y
  HeavyBall,  // step * p, where p = decay * p + y
  Adam,       // step * p / sqrt(v + eps), where p = decay * p + (1 - decay) * y, v = square_decay * v + (1 - square_decay) * y * y
};

struct MomentumSpec {
  Momentum kind = Momentum::None;
  float decay = 0;
  float square_decay = 0.999f;
  float step = 1;
  float eps = 1e-8f;
};

struct MoeSpec {
  RouterRule router;         // of the layer that has the most experts
  bool router_bias = false;  // added to the logits
  std::vector<int> experts_L;  // how many each layer has, 0 in dense ones; empty: all sparse layers have router.num_experts
  // A layer's experts are visited so often in turn, each time by a router of its own, each time on what the turns before have
  // made of the token: h_0 = x, h_i = h_{i-1} + y_i, and the layer's output is the sum of y_i (Wang et al. 2025, "Chain-of-Experts").
  int iterations = 1;
  int expert_width = 0;      // what experts take and give; 0: the model's width. Less: tokens are projected down once before they are
                             // dispatched and up after they are combined (Jin et al. 2025, "BigMac")
  bool ternary_experts = false;  // experts' weights are -1, 0 or 1 times a scale a matrix (Wang et al. 2025, "MoTE")
  MomentumSpec momentum;
  int expert_hidden = 0;     // F of a routed feed-forward
  int gru_experts = 0;       // the last so many of each layer's experts are GRUs (spec/expert_kind.h)
  int gru_hidden = 0;        // numbers of their state
  bool expert_bias = false;  // on all three projections
  bool output_bias = false;  // on what the routed experts give together (JetMoE)
  Activation activation = Activation::SwiGlu;
  int shared_hidden = 0;     // F of the shared experts together; 0: none
  bool shared_gate = false;  // the shared experts' output is scaled by sigmoid of a learnt projection (Qwen2-MoE)
  // Routed and shared experts are mixed by a softmax of two learnt projections (Rajbhandari et al. 2022, "DeepSpeed-MoE": residual
  // MoE): the first is the routed ones'.
  bool shared_mix = false;
};

enum class Norm {
  Rms,    // x / sqrt(mean(x^2) + eps) * weight
  Layer,  // (x - mean) / sqrt(variance + eps) * weight + bias
};

enum class FeedForward { Dense, Moe };

struct ModelSpec {
  std::string family;  // a row of format/families: "mixtral", "olmoe", "qwen3_moe", "moiety", …
  int num_layers = 0;
  int width = 0;  // D
  int vocab_size = 0;
  int max_positions = 0;
  Norm norm = Norm::Rms;
  float norm_eps = 1e-5f;
  bool tied_embeddings = false;
  bool head_bias = false;
  // The embedding, what each block adds to the residual stream, and the logits are multiplied by these (Granite).
  float embedding_scale = 1, residual_scale = 1, logit_scale = 1;

  AttentionSpec attention;
  MoeSpec moe;
  int dense_hidden = 0;                   // F of a dense layer
  std::vector<FeedForward> feed_forward;  // one a layer

  int bos_token = -1;           // -1: none
  std::vector<int> eos_tokens;  // generation ends at any of these

  int experts(int layer) const;        // 0 in a dense one
  RouterRule router(int layer) const;  // of one iteration
  int expert_width() const { return moe.expert_width > 0 ? moe.expert_width : width; }
  int moe_layers() const;
  int leading_dense_layers() const;   // before the first sparse one
  // The last MoE layer before this one, -1 if there is none.
  int moe_layer_before(int layer) const;
  // Whether one router serves all layers before the first begins (Gate::Decoupled). Its attention counts as layer num_layers.
  bool has_own_router() const { return moe.router.gate == Gate::Decoupled && moe_layers() > 0; }
  int attention_layers() const { return num_layers + (has_own_router() ? 1 : 0); }
  int64_t parameters() const;         // all
  // Those that one token visits, embedding table left out unless tied; an expert counts as often as it is visited.
  int64_t active_parameters() const;
};

// Throws Error(Input) with the field, what was found and what was expected, unless the sizes fit each other.
// `where` names the file that said so.
void check(const ModelSpec& spec, const std::string& where);

// Our own config.json: the fields above by name.
Json to_json(const ModelSpec& spec);
ModelSpec model_spec_from_json(const Json& json, const std::string& where);

}  // namespace moiety::spec
