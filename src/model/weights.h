// The weights of a model as the forward pass wants them: matrices as they lie in the file, norms and biases as floats.
#pragma once

#include <array>
#include <vector>

#include "format/model_file.h"
#include "kernel/linear.h"
#include "spec/expert_kind.h"

namespace moiety::model {

struct NormWeights {
  std::vector<float> weight_D;
  std::vector<float> bias_D;  // empty: an RMS norm
};

// Of latent attention; up-projections are [heads * out, in].
struct LatentWeights {
  kernel::Projection query_down, query_up;  // empty: queries are one projection
  std::vector<float> query_down_norm;
  kernel::Projection kv_down, key_up, value_up;
  mutable kernel::Projection key_of_latent;  // empty until latent attention is first computed expanded
  std::vector<float> kv_down_norm;
};

// Of attention experts.
struct AttentionExpertWeights {
  kernel::Projection router_ED;  // empty: attention is no matter of experts
  std::vector<kernel::Projection> query_E, output_E;
};

struct AttentionWeights {
  NormWeights norm;
  kernel::Projection query, key, value, output;
  AttentionExpertWeights experts;  // instead of query and output
  std::vector<float> query_bias, key_bias, value_bias, output_bias;  // empty: none
  std::vector<float> query_norm, key_norm;                           // empty: none
  std::vector<float> sinks_H;                                        // empty: none
  LatentWeights latent;                                              // empty unless the spec says so
};

// An expert of any kind, or a feed-forward that all tokens visit: its matrices and their biases in the order of its kind's roles.
struct ExpertWeights {
  spec::ExpertKind kind = spec::ExpertKind::FeedForward;
  int number = 0;  // among those of its kind
  std::array<kernel::Projection, spec::kMatricesPerExpert> matrices;
  std::array<std::vector<float>, spec::kMatricesPerExpert> biases;  // empty: none

  bool empty() const { return matrices[0].empty(); }
};

struct MoeWeights {
  kernel::Projection router_ED;         // empty: the gate learns nothing
  kernel::Projection gate_down;         // of Gate::Cosine and Recurrent
  kernel::Projection gate_leaf;         // of Gate::Tree
  std::vector<float> cosine_factor_E;   // of Gate::Cosine: by the experts' lengths and the temperature
  std::vector<int32_t> hashed_VK;       // of Gate::Hash: each token's experts
  std::vector<float> router_bias_E;     // empty: none
  std::vector<float> selection_bias_E;  // empty: none
  kernel::Projection gating_residual_CC;      // empty: none
  kernel::Projection constant_mix;            // two rows a constant expert; empty: there is none
  std::vector<float> constant_vectors;        // [constant experts, D]
  std::vector<ExpertWeights> experts_E;
  std::vector<ExpertWeights> low_E;  // the same in low precision, for model/lossy.h; empty: none
  std::vector<float> output_bias_D;  // on what experts give together; empty: none
  kernel::Projection descend, ascend;  // to the experts' width and back; empty: it is the model's
  ExpertWeights shared;        // empty: none
  kernel::Projection shared_scale;  // empty: the shared experts' output is taken as it is
};

// Shortest vector that an angle is measured to.
inline constexpr float kLeastLength = 1e-6f;

// Of Gate::Recurrent.
struct RecurrentWeights {
  kernel::Projection input, state;
  std::vector<float> input_bias, state_bias;
};

// Of Gate::Decoupled.
struct OwnRouterWeights {
  AttentionWeights attention;
  NormWeights norm;
  kernel::Projection down;
};

struct LayerWeights {
  AttentionWeights attention;
  NormWeights feed_forward_norm;
  ExpertWeights dense;  // of a dense layer
  MoeWeights moe;            // of a sparse layer
};

struct Weights {
  kernel::WeightView embedding_VD;
  kernel::Projection head_VD;
  std::vector<float> head_bias_V;  // empty: none
  NormWeights final_norm;
  RecurrentWeights recurrent;    // empty unless the gate is
  OwnRouterWeights own_router;   // empty unless the gate is decoupled
  std::vector<LayerWeights> layers;
};

// Views look into the file's map; `file` must outlive them. Experts of a packed file are packed from the start. Throws Error(Input)
// if a norm, bias or router holds a NaN, or experts are packed and the arithmetic is exact.
Weights load_weights(const format::ModelFile& file, kernel::Arithmetic arithmetic);

// All matrices but the experts'; those that a model does not have are left out.
struct DenseMatrices {
  std::vector<kernel::Projection*> multiplied;
  std::vector<kernel::WeightView*> as_they_lie;  // whatever the arithmetic
};
DenseMatrices dense_matrices(Weights& weights);

// Those of all experts, layer by layer.
std::vector<kernel::Projection*> expert_matrices(Weights& weights);

// The name of a tensor that holds a NaN or an infinity, or an empty string. Reads every weight: for when the output has
// gone wrong and a person wants to know why.
std::string find_broken_tensor(const format::ModelFile& file);

}  // namespace moiety::model
