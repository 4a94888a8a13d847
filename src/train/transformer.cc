#include "train/transformer.h"

#include "base/file.h"
#include "format/safetensors.h"
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
      anchor_(torch::zeros({1}, torch::requires_grad())) {
  check_supported(spec);
}

WeightMatrix Transformer::head() {
  return weights_.matrix(spec_.tied_embeddings ? Role::Embedding : Role::Head);
}

Losses Transformer::forward(const Batch& batch, const LossWeights& loss_weights, Routes* routes) {
  Routes own_routes;
  tensor_list balance_losses, z_losses;
  const Tensor x_TD = hidden_states(batch, routes ? *routes : own_routes, balance_losses, z_losses);
  const Tensor cross_entropy = mean_cross_entropy(x_TD, head(), batch.targets_T, mode_.type);
  const Tensor balance = mean_of(balance_losses), z = mean_of(z_losses);
  return {cross_entropy + loss_weights.balance * balance + loss_weights.z * z, cross_entropy.item<float>(),
          balance.item<float>(), z.item<float>()};
}

Tensor Transformer::logits(const Batch& batch, Routes* routes) {
  const torch::NoGradGuard no_graph;
  Routes own_routes;
  tensor_list balance_losses, z_losses;
  return linear(hidden_states(batch, routes ? *routes : own_routes, balance_losses, z_losses), head(), mode_.type);
}

Tensor Transformer::hidden_states(const Batch& batch, Routes& routes, tensor_list& balance_losses,
                                  tensor_list& z_losses) {
  int longest = 0;
  for (const Segment& segment : batch.segments) longest = std::max(longest, segment.length);
  if (static_cast<size_t>(longest) > rotary_.cosine.rows()) rotary_ = rotary_table(spec_.attention, longest);

  Tensor x_TD = embed(anchor_, weights_.matrix(Role::Embedding), batch.tokens_T);
  for (int layer = 0; layer < spec_.num_layers; ++layer) {
    x_TD = attention_block(layer, x_TD, batch);
    x_TD = spec_.feed_forward[layer] == spec::FeedForward::Dense
               ? dense_block(layer, x_TD)
               : moe_block(layer, x_TD, routes, balance_losses, z_losses);
  }
  return rms_norm(x_TD, weights_.vector(Role::FinalNorm), spec_.norm_eps);
}

Tensor Transformer::attention_block(int layer, const Tensor& x_TD, const Batch& batch) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::AttentionNorm, layer), spec_.norm_eps);
  const Tensor qkv_TQ = linear(normed_TD, weights_.joined(Role::Query, Role::Value, layer), mode_.type);
  HeadNorms norms;
  if (spec_.attention.qk_norm != spec::QkNorm::None) {
    norms = {weights_.vector(Role::QueryNorm, layer), weights_.vector(Role::KeyNorm, layer)};
  }
  const Tensor attended = attend(attention_, qkv_TQ, norms, batch.segments);
  return add_linear(x_TD, attended, weights_.matrix(Role::AttentionOutput, layer), mode_.type);
}

Tensor Transformer::dense_block(int layer, const Tensor& x_TD) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::FeedForwardNorm, layer), spec_.norm_eps);
  const Tensor gate_up = linear(normed_TD, weights_.joined(Role::DenseGate, Role::DenseUp, layer), mode_.type);
  return add_linear(x_TD, silu_mul(gate_up), weights_.matrix(Role::DenseDown, layer), mode_.type);
}

Tensor Transformer::moe_block(int layer, const Tensor& x_TD, Routes& routes, tensor_list& balance_losses,
                              tensor_list& z_losses) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::FeedForwardNorm, layer), spec_.norm_eps);

  // Router
  const Tensor logits_TE = linear(normed_TD, weights_.matrix(Role::Router, layer));
  const bool biased = spec_.moe.router.has_selection_bias;
  const Routed routed = route(spec_.moe.router, logits_TE,
                              biased ? weights_.vector(Role::SelectionBias, layer).value : std::span<float>());
  routes.push_back(routed.saved);
  balance_losses.push_back(routed.balance_loss);
  z_losses.push_back(routed.z_loss);

  // Experts
  const auto pointers = [&](auto part) {
    return ExpertStack<float>{static_cast<size_t>(spec_.moe.router.num_experts), static_cast<size_t>(spec_.width),
                              static_cast<size_t>(spec_.moe.expert_hidden), part(Role::ExpertGate),
                              part(Role::ExpertUp), part(Role::ExpertDown)};
  };
  const auto value = pointers([&](Role role) { return weights_.vector(role, layer).value.data(); });
  const auto gradient = pointers([&](Role role) { return weights_.vector(role, layer).gradient.data(); });
  const ExpertWeights experts{
      {value.num_experts, value.width, value.hidden, value.gate, value.up, value.down}, gradient};
  const Tensor sum_TD = add_experts(x_TD, normed_TD, routed.mix_N, routed.saved->routing, experts, mode_);
  return spec_.moe.shared_hidden > 0 ? add_shared(layer, sum_TD, normed_TD) : sum_TD;
}

Tensor Transformer::add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD) {
  const Tensor hidden = silu_mul(linear(x_TD, weights_.joined(Role::SharedGate, Role::SharedUp, layer), mode_.type));
  const WeightMatrix down = weights_.matrix(Role::SharedDown, layer);
  if (!spec_.moe.shared_gate) return add_linear(sum_TD, hidden, down, mode_.type);
  const Tensor scale_T1 = torch::sigmoid(linear(x_TD, weights_.matrix(Role::SharedScale, layer)));
  return sum_TD + scale_T1 * linear(hidden, down, mode_.type);
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
