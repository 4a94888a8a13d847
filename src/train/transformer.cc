#include "train/transformer.h"

#include "base/file.h"
#include "format/safetensors.h"
#include "train/attention_experts.h"
#include "train/gemm.h"

namespace moiety::train {
namespace {

using spec::Role;

void check_supported(const spec::ModelSpec& spec) {
  const spec::AttentionSpec& a = spec.attention;
  const spec::MoeSpec& m = spec.moe;
  require(!a.latent && a.sliding_window == 0 && a.clip_qkv == 0 && !a.qkv_bias && !a.output_bias && !a.sinks,
          "training knows no latent attention, sliding window, clipping, sinks or biases in attention");
  require(a.rope.scaling.kind == spec::RopeScalingKind::None && a.rope_dim() == a.head_dim && a.score_scale == 0 &&
              a.rope.pairs == spec::RopePairs::Halves,
          "training knows no scaled or partial rotary positions");
  require(m.router.num_groups == 1 && m.router.score != spec::Score::Logits && m.router.weigh == spec::Weigh::Scores &&
              !m.router_bias && !m.expert_bias && m.activation == spec::Activation::SwiGlu,
          "training knows no groups of experts, SparseMixer, router bias, expert biases or clamped activation");
  require(spec.norm == spec::Norm::Rms && !spec.head_bias && spec.embedding_scale == 1 && spec.residual_scale == 1 &&
              spec.logit_scale == 1,
          "training knows no layer norms, no bias on the logits and no scaled embeddings, residuals or logits");
}

Tensor mean_of(const tensor_list& losses) {
  return losses.empty() ? torch::tensor(0.0f) : torch::stack(losses).mean();
}

}  // namespace

Transformer::Transformer(const spec::ModelSpec& spec, Weights& weights, const Mode& mode)
    : spec_(spec),
      weights_(weights),
      mode_(mode),
      attention_(spec.attention, spec.norm_eps, rotary_, mode.type),
      moe_block_(spec_, weights, mode),
      anchor_(torch::zeros({1}, torch::requires_grad())) {
  check_supported(spec);
}

WeightMatrix Transformer::head() {
  return weights_.matrix(spec_.tied_embeddings ? Role::Embedding : Role::Head);
}

Losses Transformer::forward(const Batch& batch, const LossWeights& loss_weights, Routes* routes) {
  RoutedLayers routed;
  const Tensor x_TD = hidden_states(batch, routed);
  const Tensor cross_entropy = mean_cross_entropy(x_TD, head(), batch.targets_T, mode_.type);
  const Tensor balance = mean_of(routed.balance_losses), z = mean_of(routed.z_losses);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return {cross_entropy + loss_weights.balance * balance + loss_weights.z * z, cross_entropy.item<float>(),
          balance.item<float>(), z.item<float>()};
}

Tensor Transformer::logits(const Batch& batch, Routes* routes) {
  const torch::NoGradGuard no_graph;
  RoutedLayers routed;
  const Tensor x_TD = hidden_states(batch, routed);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return linear(x_TD, head(), mode_.type);
}

Tensor Transformer::hidden_states(const Batch& batch, RoutedLayers& routed) {
  int longest = 0;
  for (const Segment& segment : batch.segments) longest = std::max(longest, segment.length);
  if (static_cast<size_t>(longest) > rotary_.cosine.rows()) rotary_ = rotary_table(spec_.attention, longest);

  Tensor x_TD = embed(anchor_, weights_.matrix(Role::Embedding), batch.tokens_T);
  for (int layer = 0; layer < spec_.num_layers; ++layer) {
    x_TD = attention_block(layer, x_TD, batch, routed);
    x_TD = feed_forward_block(layer, x_TD, routed);
  }
  return rms_norm(x_TD, weights_.vector(Role::FinalNorm), spec_.norm_eps);
}

Tensor Transformer::attention_block(int layer, const Tensor& x_TD, const Batch& batch, RoutedLayers& routed) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::AttentionNorm, layer), spec_.norm_eps);
  if (spec_.attention.experts) {
    return add_attention_experts(spec_, weights_, mode_, attention_, layer, x_TD, normed_TD, batch.segments, routed);
  }
  const Tensor qkv_TQ = linear(normed_TD, weights_.joined(Role::Query, Role::Value, layer), mode_.type);
  HeadNorms norms;
  if (spec_.attention.qk_norm != spec::QkNorm::None) {
    norms = {weights_.vector(Role::QueryNorm, layer), weights_.vector(Role::KeyNorm, layer)};
  }
  const Tensor attended = attend(attention_, qkv_TQ, norms, batch.segments);
  return add_linear(x_TD, attended, weights_.matrix(Role::AttentionOutput, layer), mode_.type);
}

Tensor Transformer::feed_forward_block(int layer, const Tensor& x_TD, RoutedLayers& routed) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::FeedForwardNorm, layer), spec_.norm_eps);
  if (spec_.feed_forward[layer] == spec::FeedForward::Moe) return moe_block_.forward(layer, x_TD, normed_TD, routed);
  const Tensor gate_up = linear(normed_TD, weights_.joined(Role::DenseGate, Role::DenseUp, layer), mode_.type);
  return add_linear(x_TD, silu_mul(gate_up), weights_.matrix(Role::DenseDown, layer), mode_.type);
}

LoadedModel load_model(const std::filesystem::path& folder) {
  const std::filesystem::path config = folder / "config.json", tensors = folder / "model.safetensors";
  LoadedModel model;
  model.spec = spec::model_spec_from_json(parse_json(read_file(config), config.string()), config.string());
  model.weights = std::make_unique<Weights>(model.spec);
  model.weights->read(format::SafetensorsFile(tensors).tensors(), tensors.string(), model.weights->values());
  model.transformer = std::make_unique<Transformer>(model.spec, *model.weights);
  return model;
}

}  // namespace moiety::train
