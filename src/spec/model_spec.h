// What a model is: sizes, norms, positions, layers. Plain data; every family that moiety reads becomes one of these,
// and the forward pass knows nothing else of a family.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "spec/router_rule.h"

namespace moiety::spec {

// RMS norm of queries and keys before the rotary embedding.
enum class QkNorm {
  None,
  PerHead,  // each head's head_dim numbers, one weight of [head_dim] (Qwen3)
  Whole,    // all heads together, one weight of [heads * head_dim] (OLMoE)
};

// Which two of a head's numbers the rotary embedding turns together.
enum class RopePairs {
  Halves,      // i and i + head_dim / 2: Hugging Face's layout, and ours
  Neighbours,  // 2i and 2i + 1: GGUF files of the llama architecture
};

struct AttentionSpec {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  QkNorm qk_norm = QkNorm::None;
  bool qkv_bias = false;
  float rope_theta = 10000.0f;
  RopePairs rope_pairs = RopePairs::Halves;
  int sliding_window = 0;       // tokens a query sees, itself included; 0: all
  float clip_qkv = 0;           // queries, keys and values are clamped to +-this; 0: never
};

struct MoeSpec {
  RouterRule router;
  int expert_hidden = 0;  // F of a routed expert
  int shared_hidden = 0;  // F of the shared experts together; 0: none
  bool shared_gate = false;  // the shared experts' output is scaled by sigmoid of a learnt projection (Qwen2-MoE)
};

enum class FeedForward { Dense, Moe };

struct ModelSpec {
  std::string family;  // a row of format/families: "mixtral", "olmoe", "qwen3_moe", "moiety", …
  int num_layers = 0;
  int width = 0;  // D
  int vocab_size = 0;
  int max_positions = 0;
  float norm_eps = 1e-5f;
  bool tied_embeddings = false;

  AttentionSpec attention;
  MoeSpec moe;
  int dense_hidden = 0;                   // F of a dense layer
  std::vector<FeedForward> feed_forward;  // one a layer

  int bos_token = -1;           // -1: none
  std::vector<int> eos_tokens;  // generation ends at any of these

  int moe_layers() const;
  int64_t parameters() const;         // all
  int64_t active_parameters() const;  // that one token visits, embedding table left out unless tied
};

// Throws Error(Input) with the field, what was found and what was expected, unless the sizes fit each other.
// `where` names the file that said so.
void check(const ModelSpec& spec, const std::string& where);

// Our own config.json: the fields above by name.
Json to_json(const ModelSpec& spec);
ModelSpec model_spec_from_json(const Json& json, const std::string& where);

}  // namespace moiety::spec
