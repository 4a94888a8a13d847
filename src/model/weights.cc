#include "model/weights.h"

#include <algorithm>
#include <cmath>

#include "format/elements.h"
#include "model/elementwise.h"
#include "moe/gate.h"

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

// [out, in], with all that comes before `in` as rows.
WeightView matrix(const ModelFile& file, const Weight& weight) {
  const TensorView tensor = file.weight(weight);
  const size_t cols = static_cast<size_t>(tensor.shape.back());
  return {tensor.type, tensor.bytes.data(), static_cast<size_t>(tensor.elements()) / cols, cols, tensor.row_stride,
          tensor.scales};
}

// An expert's that a packed file has in planes.
kernel::Projection matrix_in_planes(const ModelFile& file, const Weight& weight) {
  const auto upper = *file.packed_expert(weight, format::PackedCopy::Upper), lower = *file.packed_expert(weight, format::PackedCopy::Lower);
  kernel::Projection w(WeightView{format::whole_type(upper.type), nullptr, upper.rows, upper.cols});
  w.planes = {upper.bytes.data(), lower.bytes.data()};
  return w;
}

// An expert's, which a packed file has as it is computed with.
kernel::Projection expert_matrix(const ModelFile& file, const Weight& weight, kernel::Arithmetic arithmetic,
                                 format::PackedCopy copy) {
  const bool in_planes = file.packed() != nullptr && file.packed()->are_in_planes();
  if (in_planes && copy == format::PackedCopy::First && arithmetic == kernel::Arithmetic::Fast) return matrix_in_planes(file, weight);
  const auto slab = file.packed_expert(weight, copy);
  const kernel::PackedType* type = slab ? kernel::packed_type(slab->type) : nullptr;
  const bool needs_rows = type != nullptr && arithmetic == kernel::Arithmetic::Exact;
  if (!slab || needs_rows) return matrix(file, weight);  // who says that rows can't be had
  kernel::Projection w(WeightView{slab->type, type == nullptr ? slab->bytes.data() : nullptr, slab->rows, slab->cols});
  if (type != nullptr) w.packed = {type, slab->bytes.data(), slab->rows, slab->cols};
  return w;
}

std::vector<float> floats(const ModelFile& file, const Weight& weight) {
  const TensorView tensor = file.weight(weight);
  std::vector<float> values = format::to_floats(tensor);
  require(all_finite(values), "{}: tensor {} holds a NaN or an infinity; the model is broken", file.path().string(),
          tensor.name);
  return values;
}

NormWeights load_norm(const ModelFile& file, Role weight, Role bias, int layer) {
  NormWeights norm{floats(file, {weight, layer}), {}};
  if (file.spec().norm == spec::Norm::Layer) norm.bias_D = floats(file, {bias, layer});
  return norm;
}

LatentWeights load_latent(const ModelFile& file, int layer) {
  LatentWeights w;
  if (file.spec().attention.latent->query_rank > 0) {
    w.query_down = matrix(file, {Role::QueryDown, layer});
    w.query_down_norm = floats(file, {Role::QueryDownNorm, layer});
    w.query_up = matrix(file, {Role::QueryUp, layer});
  }
  w.kv_down = matrix(file, {Role::KvDown, layer});
  w.kv_down_norm = floats(file, {Role::KvDownNorm, layer});
  w.key_up = matrix(file, {Role::KeyUp, layer});
  w.value_up = matrix(file, {Role::ValueUp, layer});
  return w;
}

// Every expert's matrix of a stack [experts, out, in].
std::vector<kernel::Projection> stacked_matrices(const ModelFile& file, const Weight& weight, int experts) {
  const WeightView all = matrix(file, weight);
  std::vector<kernel::Projection> matrices_E;
  for (size_t e = 0, rows = all.rows / static_cast<size_t>(experts); e < static_cast<size_t>(experts); ++e) {
    WeightView one = all;
    one.data = all.row(e * rows);
    one.rows = rows;
    matrices_E.push_back(one);
  }
  return matrices_E;
}

AttentionExpertWeights load_attention_experts(const ModelFile& file, int layer) {
  const int experts = file.spec().attention.experts->num_experts;
  floats(file, {Role::AttentionRouter, layer});  // one NaN here would mislead every token
  return {matrix(file, {Role::AttentionRouter, layer}), stacked_matrices(file, {Role::AttentionExpertQuery, layer}, experts),
          stacked_matrices(file, {Role::AttentionExpertOutput, layer}, experts)};
}

AttentionWeights load_attention(const ModelFile& file, int layer) {
  const spec::AttentionSpec& spec = file.spec().attention;
  AttentionWeights w;
  w.norm = load_norm(file, Role::AttentionNorm, Role::AttentionNormBias, layer);
  if (spec.experts) w.experts = load_attention_experts(file, layer);
  else if (!spec.latent || spec.latent->query_rank == 0) w.query = matrix(file, {Role::Query, layer});
  if (spec.latent) {
    w.latent = load_latent(file, layer);
  } else {
    w.key = matrix(file, {Role::Key, layer});
    w.value = matrix(file, {Role::Value, layer});
  }
  if (!spec.experts) w.output = matrix(file, {Role::AttentionOutput, layer});
  if (spec.qkv_bias) {
    w.query_bias = floats(file, {Role::QueryBias, layer});
    w.key_bias = floats(file, {Role::KeyBias, layer});
    w.value_bias = floats(file, {Role::ValueBias, layer});
  }
  if (spec.output_bias) w.output_bias = floats(file, {Role::AttentionOutputBias, layer});
  if (spec.qk_norm != spec::QkNorm::None) {
    w.query_norm = floats(file, {Role::QueryNorm, layer});
    w.key_norm = floats(file, {Role::KeyNorm, layer});
  }
  if (spec.sinks) w.sinks_H = floats(file, {Role::Sinks, layer});
  return w;
}

ExpertWeights load_expert(const ModelFile& file, int layer, int expert, kernel::Arithmetic arithmetic,
                          format::PackedCopy copy = format::PackedCopy::First) {
  const spec::ExpertPlace place = spec::place_of(file.spec(), layer, expert);
  const spec::ExpertKindInfo& kind = spec::info(place.kind);
  ExpertWeights w{.kind = place.kind, .number = place.number};
  for (size_t i = 0; i < spec::kMatricesPerExpert; ++i) {
    w.matrices[i] = expert_matrix(file, {kind.matrices[i], layer, place.number}, arithmetic, copy);
    if (kind.biases[i] && kind.has_biases(file.spec().moe)) w.biases[i] = floats(file, {*kind.biases[i], layer, place.number});
  }
  return w;
}

// What the lengths of the experts' embeddings, and the temperature, divide by.
std::vector<float> cosine_factors(const ModelFile& file, int layer) {
  const spec::RouterRule& rule = file.spec().moe.router;
  const std::vector<float> router_EG = floats(file, {Role::Router, layer});
  float sharpness = 1 / rule.gate_temperature;
  if (rule.gate_learns_temperature) sharpness *= std::exp(-floats(file, {Role::GateTemperature, layer})[0]);
  const size_t width = static_cast<size_t>(rule.gate_width);
  std::vector<float> factor_E;
  for (size_t at = 0; at < router_EG.size(); at += width) {
    factor_E.push_back(sharpness / std::max(std::sqrt(sum_of_squares(std::span(router_EG).subspan(at, width))), kLeastLength));
  }
  return factor_E;
}

void load_gate(const ModelFile& file, int layer, MoeWeights& w) {
  const spec::RouterRule rule = file.spec().router(layer);
  const auto load = [&](Role role) {
    floats(file, {role, layer});  // one NaN here would mislead every token
    return matrix(file, {role, layer});
  };
  if (rule.gate == spec::Gate::Hash) w.hashed_VK = moe::hashed_experts(rule, layer, file.spec().vocab_size);
  if (!rule.is_learnt()) return;
  w.router_ED = load(Role::Router);
  if (rule.gate == spec::Gate::Cosine || rule.gate == spec::Gate::Recurrent) w.gate_down = load(Role::GateDown);
  if (rule.gate == spec::Gate::Cosine) w.cosine_factor_E = cosine_factors(file, layer);
  if (rule.gate == spec::Gate::Tree) w.gate_leaf = load(Role::GateLeaf);
}

MoeWeights load_moe(const ModelFile& file, int layer, kernel::Arithmetic arithmetic) {
  const spec::MoeSpec& spec = file.spec().moe;
  MoeWeights w;
  load_gate(file, layer, w);
  if (spec.router_bias) w.router_bias_E = floats(file, {Role::RouterBias, layer});
  if (spec.router.has_selection_bias) w.selection_bias_E = floats(file, {Role::SelectionBias, layer});
  if (spec.router.gating_residual && layer > file.spec().leading_dense_layers()) {
    w.gating_residual_CC = matrix(file, {Role::GatingResidual, layer});
  }
  if (spec.router.constant_experts > 0) {
    w.constant_mix = matrix(file, {Role::ConstantMix, layer});
    w.constant_vectors = floats(file, {Role::ConstantVector, layer});
  }
  if (spec.output_bias) w.output_bias_D = floats(file, {Role::ExpertsBias, layer});
  if (spec.expert_width > 0) {
    w.descend = matrix(file, {Role::ExpertsDescend, layer});
    w.ascend = matrix(file, {Role::ExpertsAscend, layer});
  }
  for (int expert = 0; expert < file.spec().experts(layer); ++expert) {
    w.experts_E.push_back(load_expert(file, layer, expert, arithmetic));
    const auto low = file.packed() == nullptr ? std::nullopt : file.packed()->low_copy();
    if (low) w.low_E.push_back(load_expert(file, layer, expert, arithmetic, *low));
  }
  if (spec.shared_hidden > 0) {
    w.shared.matrices = {matrix(file, {Role::SharedGate, layer}), matrix(file, {Role::SharedUp, layer}),
                         matrix(file, {Role::SharedDown, layer})};
    if (spec.shared_gate || spec.shared_mix) w.shared_scale = matrix(file, {Role::SharedScale, layer});
  }
  return w;
}

}  // namespace

Weights load_weights(const ModelFile& file, kernel::Arithmetic arithmetic) {
  const spec::ModelSpec& spec = file.spec();
  Weights w;
  w.embedding_VD = matrix(file, {Role::Embedding});
  w.head_VD = spec.tied_embeddings ? w.embedding_VD : matrix(file, {Role::Head});
  if (spec.head_bias) w.head_bias_V = floats(file, {Role::HeadBias});
  w.final_norm = load_norm(file, Role::FinalNorm, Role::FinalNormBias, -1);
  if (spec.moe.router.gate == spec::Gate::Recurrent && spec.moe_layers() > 0) {
    w.recurrent = {matrix(file, {Role::GruInput}), matrix(file, {Role::GruState}), floats(file, {Role::GruInputBias}),
                   floats(file, {Role::GruStateBias})};
  }
  if (spec.has_own_router()) {
    w.own_router = {load_attention(file, spec.num_layers),
                    load_norm(file, Role::FeedForwardNorm, Role::FeedForwardNormBias, spec.num_layers),
                    matrix(file, {Role::GateDown, spec.num_layers})};
  }
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    LayerWeights l;
    l.attention = load_attention(file, layer);
    l.feed_forward_norm = load_norm(file, Role::FeedForwardNorm, Role::FeedForwardNormBias, layer);
    if (spec.feed_forward[layer] == spec::FeedForward::Moe) {
      l.moe = load_moe(file, layer, arithmetic);
    } else {
      l.dense.matrices = {matrix(file, {Role::DenseGate, layer}), matrix(file, {Role::DenseUp, layer}),
                          matrix(file, {Role::DenseDown, layer})};
    }
    w.layers.push_back(std::move(l));
  }
  return w;
}

DenseMatrices dense_matrices(Weights& weights) {
  DenseMatrices all{{&weights.head_VD}, {&weights.embedding_VD}};
  const auto add_block = [&](ExpertWeights& block) {
    for (kernel::Projection& matrix : block.matrices) all.multiplied.push_back(&matrix);
  };
  for (LayerWeights& layer : weights.layers) {
    AttentionWeights& a = layer.attention;
    LatentWeights& l = a.latent;
    all.multiplied.insert(all.multiplied.end(), {&a.query, &a.key, &a.value, &a.output, &l.query_down, &l.query_up, &l.kv_down});
    all.multiplied.insert(all.multiplied.end(), {&layer.moe.descend, &layer.moe.ascend});
    for (auto* experts_E : {&a.experts.query_E, &a.experts.output_E}) {
      for (kernel::Projection& expert : *experts_E) all.multiplied.push_back(&expert);
    }
    all.as_they_lie.insert(all.as_they_lie.end(), {&l.key_up, &l.value_up, &a.experts.router_ED, &layer.moe.router_ED, &layer.moe.gate_down,
                                                   &layer.moe.gate_leaf, &layer.moe.gating_residual_CC, &layer.moe.constant_mix,
                                                   &layer.moe.shared_scale});
    add_block(layer.dense);
    add_block(layer.moe.shared);
  }
  // What decides is computed with as it lies.
  OwnRouterWeights& r = weights.own_router;
  AttentionWeights& a = r.attention;
  all.as_they_lie.insert(all.as_they_lie.end(), {&weights.recurrent.input, &weights.recurrent.state, &a.query, &a.key, &a.value, &a.output,
                                                 &a.latent.query_down, &a.latent.query_up, &a.latent.kv_down, &a.latent.key_up,
                                                 &a.latent.value_up, &r.down});
  std::erase_if(all.multiplied, [](const kernel::Projection* matrix) { return matrix->WeightView::empty(); });
  std::erase_if(all.as_they_lie, [](const WeightView* matrix) { return matrix->empty(); });
  return all;
}

std::vector<kernel::Projection*> expert_matrices(Weights& weights) {
  std::vector<kernel::Projection*> all;
  for (LayerWeights& layer : weights.layers) {
    for (ExpertWeights& expert : layer.moe.experts_E) {
      for (kernel::Projection& matrix : expert.matrices) all.push_back(&matrix);
    }
  }
  std::erase_if(all, [](const kernel::Projection* matrix) { return matrix->WeightView::empty(); });
  return all;
}

std::string find_broken_tensor(const ModelFile& file) {
  for (const TensorView& tensor : file.tensors()) {
    if (spec::info(tensor.type).is_weight && !all_finite(format::to_floats(tensor))) return tensor.name;
  }
  return {};
}

}  // namespace moiety::model
