#include "train/transformer.h"

#include "base/file.h"
#include "format/safetensors.h"
#include "train/attention_experts.h"
#include "train/consistency.h"
#include "train/gemm.h"
#include "train/recompute.h"

namespace moiety::train {
namespace {

using spec::Role;

void check_supported(const spec::ModelSpec& spec) {
  const spec::AttentionSpec& a = spec.attention;
  const spec::MoeSpec& m = spec.moe;
  require(!a.latent && a.sliding_window == 0 && a.clip_qkv == 0 && !a.qkv_bias && !a.sinks,
          "training knows no latent attention, sliding window, clipping, sinks or biases of queries, keys and values");
  require(a.rope.scaling.kind == spec::RopeScalingKind::None && a.rope_dim() == a.head_dim && a.score_scale == 0 &&
              a.rope.pairs == spec::RopePairs::Halves,
          "training knows no scaled or partial rotary positions");
  require(!m.router_bias && !m.expert_bias && m.activation == spec::Activation::SwiGlu,
          "training knows no router bias, expert biases or clamped activation");
  require(m.router.weigh != spec::Weigh::SparseMixer || !m.router.renormalise,
          "SparseMixer's weights are estimates of a gradient: they are not renormalised in training");
  require(spec.norm == spec::Norm::Rms && !spec.head_bias && spec.embedding_scale == 1 && spec.residual_scale == 1 &&
              spec.logit_scale == 1,
          "training knows no layer norms, no bias on the logits and no scaled embeddings, residuals or logits");
}

Tensor mean_of(const tensor_list& losses) {
  return losses.empty() ? torch::tensor(0.0f) : torch::stack(losses).mean();
}

}  // namespace

Transformer::Transformer(const spec::ModelSpec& spec, Weights& weights, const Mode& mode, const ExpertRanks* ranks, comm::Group* tensor)
    : spec_(spec),
      weights_(weights),
      mode_(mode),
      attention_(heads_here(spec.attention, weights.tensor_share()), spec.norm_eps, rotary_, mode.type),
      gates_(spec_, weights),
      moe_block_(spec_, weights, mode, gates_, ranks),
      tensor_(tensor),
      anchor_(torch::zeros({1}, torch::requires_grad())) {
  check_supported(spec);
}

WeightMatrix Transformer::head() {
  return weights_.matrix(spec_.tied_embeddings ? Role::Embedding : Role::Head);
}

Losses Transformer::forward(const Batch& batch, const LossWeights& loss_weights, Routes* routes, const PassOrder& order) {
  if (loss_weights.consistency > 0) return forward_twice(batch, loss_weights, routes, order);
  RoutedLayers routed{.order = order,
                      .choosing = {.in_training = torch::GradMode::is_enabled(), .chance = batch.draw, .first_token = batch.first_token},
                      .sequence = batch.sequence,
                      .with_entropy = loss_weights.entropy != 0,
                      .ring = batch.ring};
  const Tensor x_TD = hidden_states(batch, routed);
  if (routed.overflowed) return {.overflowed = true};
  const Tensor cross_entropy = mean_cross_entropy(x_TD, head(), batch.targets_T, mode_.type);
  const Tensor balance = mean_of(routed.balance_losses), z = mean_of(routed.z_losses), entropy = mean_of(routed.entropy_losses),
               spread = mean_of(routed.spread_losses);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return {loss_weights.cross_entropy * cross_entropy + loss_weights.balance * balance + loss_weights.z * z +
              loss_weights.entropy * entropy + loss_weights.spread * spread,
          cross_entropy.item<float>(), balance.item<float>(), z.item<float>(), entropy.item<float>(), spread.item<float>()};
}

Routes Transformer::decide(const Batch& batch, const PassOrder& order) {
  const torch::NoGradGuard no_graph;
  RoutedLayers routed{.order = order, .choosing = {.in_training = true, .chance = batch.draw, .first_token = batch.first_token}, .sequence = batch.sequence};
  hidden_states(batch, routed);
  return std::move(routed.routes);
}

// Both passes are to predict the targets and to agree. Routes and losses of the routers are those of the first.
Losses Transformer::forward_twice(const Batch& batch, const LossWeights& loss_weights, Routes* routes, const PassOrder& order) {
  Batch again = batch;
  again.draw = ~batch.draw;
  const Choosing choosing{.in_training = torch::GradMode::is_enabled(), .chance = batch.draw, .first_token = batch.first_token};
  RoutedLayers routed{.order = order, .choosing = choosing, .sequence = batch.sequence}, routed_again = routed;
  const Tensor a_TD = hidden_states(batch, routed), b_TD = hidden_states(again, routed_again);
  const Tensor cross_entropy = (mean_cross_entropy(a_TD, head(), batch.targets_T, mode_.type) +
                                mean_cross_entropy(b_TD, head(), batch.targets_T, mode_.type)) / 2;
  const Tensor consistency = mean_consistency(a_TD, b_TD, head(), batch.targets_T, mode_.type);
  const Tensor balance = mean_of(routed.balance_losses), z = mean_of(routed.z_losses);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return {loss_weights.cross_entropy * cross_entropy + loss_weights.balance * balance + loss_weights.z * z +
              loss_weights.consistency * consistency,
          cross_entropy.item<float>(), balance.item<float>(), z.item<float>(), 0, 0, consistency.item<float>()};
}

Tensor Transformer::logits(const Batch& batch, Routes* routes) {
  const torch::NoGradGuard no_graph;
  const PassOrder order;
  RoutedLayers routed{.order = order, .sequence = batch.sequence};
  const Tensor x_TD = hidden_states(batch, routed);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return linear(x_TD, head(), mode_.type);
}

// Undefined after an overflow.
Tensor Transformer::hidden_states(const Batch& batch, RoutedLayers& routed) {
  if (tensor_ != nullptr) routed.together = bring_together(*tensor_, batch);
  int longest = 0;
  for (const Segment& segment : routed.seen(batch.segments)) longest = std::max(longest, segment.position + segment.length);
  if (static_cast<size_t>(longest) > rotary_.cosine.rows()) rotary_ = rotary_table(spec_.attention, longest);

  const bool recomputes = torch::GradMode::is_enabled() && routed.order.recompute_layers;
  Tensor x_TD = embed(anchor_, weights_.matrix(Role::Embedding), batch.tokens_T);
  gates_.begin(batch, spec_.has_own_router() ? gates_.own_router(attention_block(spec_.num_layers, x_TD, batch.segments, routed)) : Tensor());
  for (int layer = 0; layer < spec_.num_layers; ++layer) {
    x_TD = recomputes ? run_layer_to_recompute(layer, x_TD, batch.segments, routed) : run_layer(layer, x_TD, batch.segments, routed);
    if (routed.overflowed) return {};
  }
  return rms_norm(x_TD, weights_.vector(Role::FinalNorm), spec_.norm_eps);
}

Tensor Transformer::run_layer(int layer, const Tensor& x_TD, const std::vector<Segment>& segments, RoutedLayers& routed) {
  const Activity::Span span(routed.order.activity, "layer", layer);
  routed.segments = segments;
  return feed_forward_block(layer, attention_block(layer, x_TD, segments, routed), routed);
}

Tensor Transformer::run_layer_to_recompute(int layer, const Tensor& x_TD, const std::vector<Segment>& segments, RoutedLayers& routed) {
  const auto order = std::make_shared<const PassOrder>(routed.order);
  const auto only_this = [order, ring = routed.ring, together = routed.together, choosing = routed.choosing, sequence = routed.sequence, with_entropy = routed.with_entropy,
                          first = routed.first + routed.routes.size()](Routes decided) {
    return RoutedLayers{.order = *order, .choosing = choosing, .sequence = sequence, .with_entropy = with_entropy, .first = first,
                        .decided = std::move(decided), .ring = ring, .together = together};
  };
  const auto joined = [](const Tensor& out_TD, const RoutedLayers& of) {
    tensor_list all{out_TD};
    for (const tensor_list& losses : {of.balance_losses, of.z_losses, of.entropy_losses, of.spread_losses}) {
      all.insert(all.end(), losses.begin(), losses.end());
    }
    return all;
  };
  RoutedLayers mine = only_this({});
  tensor_list made;
  {
    const torch::NoGradGuard no_graph;
    const Tensor out_TD = run_layer(layer, x_TD, segments, mine);
    if (mine.overflowed) {
      routed.overflowed = true;
      return {};
    }
    made = joined(out_TD, mine);
  }
  made = recompute_later({x_TD}, made, [=, this, decided = mine.routes](const tensor_list& x) {
    RoutedLayers again = only_this(decided);
    const Tensor out_TD = run_layer(layer, x[0], segments, again);
    return joined(out_TD, again);
  });
  routed.routes.insert(routed.routes.end(), mine.routes.begin(), mine.routes.end());
  auto next = made.begin() + 1;
  const auto take = [&next](const tensor_list& own, tensor_list& all) {
    all.insert(all.end(), next, next + static_cast<ptrdiff_t>(own.size()));
    next += static_cast<ptrdiff_t>(own.size());
  };
  take(mine.balance_losses, routed.balance_losses);
  take(mine.z_losses, routed.z_losses);
  take(mine.entropy_losses, routed.entropy_losses);
  take(mine.spread_losses, routed.spread_losses);
  return made[0];
}

Tensor Transformer::attention_block(int layer, const Tensor& x_TD, const std::vector<Segment>& segments, RoutedLayers& routed) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::AttentionNorm, layer), spec_.norm_eps);
  const auto with_bias = [&](const Tensor& out_TD) {
    return spec_.attention.output_bias ? add_bias(out_TD, weights_.vector(Role::AttentionOutputBias, layer)) : out_TD;
  };
  if (spec_.attention.experts) {
    return with_bias(add_attention_experts(spec_, weights_, mode_, attention_, layer, x_TD, normed_TD, segments, routed));
  }
  const Tensor qkv_TQ = linear(gather_tokens(normed_TD, routed.together), weights_.joined(Role::Query, Role::Value, layer), mode_.type);
  HeadNorms norms;
  if (spec_.attention.qk_norm != spec::QkNorm::None) {
    norms = {weights_.vector(Role::QueryNorm, layer), weights_.vector(Role::KeyNorm, layer)};
  }
  const Tensor attended = attend(attention_, qkv_TQ, norms, routed.seen(segments), routed.ring);
  return with_bias(add_linear_slice(x_TD, attended, weights_.matrix(Role::AttentionOutput, layer), mode_.type, routed.together));
}

Tensor Transformer::feed_forward_block(int layer, const Tensor& x_TD, RoutedLayers& routed) {
  const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::FeedForwardNorm, layer), spec_.norm_eps);
  if (spec_.feed_forward[layer] == spec::FeedForward::Moe) return moe_block_.forward(layer, x_TD, normed_TD, routed);
  const Tensor gate_up = linear(gather_tokens(normed_TD, routed.together), weights_.joined(Role::DenseGate, Role::DenseUp, layer), mode_.type);
  return add_linear_slice(x_TD, silu_mul(gate_up), weights_.matrix(Role::DenseDown, layer), mode_.type, routed.together);
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
