#include "model/weights.h"

#include <algorithm>
#include <cmath>

#include "format/elements.h"

namespace moiety::model {
namespace {

using format::ModelFile;
using format::TensorView;
using kernel::WeightView;
using spec::Role;
using spec::Weight;

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

WeightView matrix(const ModelFile& file, const Weight& weight) {
  const TensorView tensor = file.weight(weight);
  return {tensor.type, tensor.bytes.data(), static_cast<size_t>(tensor.shape[0]), static_cast<size_t>(tensor.shape[1])};
}

std::vector<float> floats(const ModelFile& file, const Weight& weight) {
  const TensorView tensor = file.weight(weight);
  std::vector<float> values = format::to_floats(tensor);
  require(all_finite(values), "{}: tensor {} holds a NaN or an infinity; the model is broken", file.path().string(),
          tensor.name);
  return values;
}

AttentionWeights load_attention(const ModelFile& file, int layer) {
  const spec::AttentionSpec& spec = file.spec().attention;
  AttentionWeights w;
  w.norm_D = floats(file, {Role::AttentionNorm, layer});
  w.query = matrix(file, {Role::Query, layer});
  w.key = matrix(file, {Role::Key, layer});
  w.value = matrix(file, {Role::Value, layer});
  w.output = matrix(file, {Role::AttentionOutput, layer});
  if (spec.qkv_bias) {
    w.query_bias = floats(file, {Role::QueryBias, layer});
    w.key_bias = floats(file, {Role::KeyBias, layer});
    w.value_bias = floats(file, {Role::ValueBias, layer});
  }
  if (spec.qk_norm != spec::QkNorm::None) {
    w.query_norm = floats(file, {Role::QueryNorm, layer});
    w.key_norm = floats(file, {Role::KeyNorm, layer});
  }
  return w;
}

MoeWeights load_moe(const ModelFile& file, int layer) {
  const spec::MoeSpec& spec = file.spec().moe;
  MoeWeights w;
  w.router_ED = matrix(file, {Role::Router, layer});
  floats(file, {Role::Router, layer});  // one NaN here would mislead every token
  if (spec.router.has_selection_bias) w.selection_bias_E = floats(file, {Role::SelectionBias, layer});
  for (int expert = 0; expert < spec.router.num_experts; ++expert) {
    w.experts_E.push_back({matrix(file, {Role::ExpertGate, layer, expert}), matrix(file, {Role::ExpertUp, layer, expert}),
                           matrix(file, {Role::ExpertDown, layer, expert})});
  }
  if (spec.shared_hidden > 0) {
    w.shared = {matrix(file, {Role::SharedGate, layer}), matrix(file, {Role::SharedUp, layer}),
                matrix(file, {Role::SharedDown, layer})};
    if (spec.shared_gate) w.shared_scale = matrix(file, {Role::SharedScale, layer});
  }
  return w;
}

}  // namespace

Weights load_weights(const ModelFile& file) {
  const spec::ModelSpec& spec = file.spec();
  Weights w;
  w.embedding_VD = matrix(file, {Role::Embedding});
  w.head_VD = spec.tied_embeddings ? w.embedding_VD : matrix(file, {Role::Head});
  w.final_norm_D = floats(file, {Role::FinalNorm});
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    LayerWeights l;
    l.attention = load_attention(file, layer);
    l.feed_forward_norm_D = floats(file, {Role::FeedForwardNorm, layer});
    if (spec.feed_forward[layer] == spec::FeedForward::Moe) {
      l.moe = load_moe(file, layer);
    } else {
      l.dense = {matrix(file, {Role::DenseGate, layer}), matrix(file, {Role::DenseUp, layer}),
                 matrix(file, {Role::DenseDown, layer})};
    }
    w.layers.push_back(std::move(l));
  }
  return w;
}

std::string find_broken_tensor(const ModelFile& file) {
  for (const TensorView& tensor : file.tensors()) {
    if (spec::info(tensor.type).is_weight && !all_finite(format::to_floats(tensor))) return tensor.name;
  }
  return {};
}

}  // namespace moiety::model
