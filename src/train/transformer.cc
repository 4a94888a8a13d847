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

// The places of what is handed on.
enum { kStream, kLogits, kMomentum, kSquares, kGateState, kAhead, kHanded };

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

// The mean over all routers of the model, of which some are here.
Tensor Transformer::mean_of(const tensor_list& losses) const {
  const size_t routers = routers_of(spec_).size() + (spec_.attention.experts ? static_cast<size_t>(spec_.attention_layers()) : 0);
  return losses.empty() ? torch::tensor(0.0f) : torch::stack(losses).sum() / static_cast<double>(routers);
}

Losses Transformer::losses_of(const Tensor& cross_entropy, const RoutedLayers& routed, const LossWeights& weights) const {
  const Tensor balance = mean_of(routed.balance_losses), z = mean_of(routed.z_losses), entropy = mean_of(routed.entropy_losses),
               spread = mean_of(routed.spread_losses);
  return {weights.cross_entropy * cross_entropy + weights.balance * balance + weights.z * z + weights.entropy * entropy + weights.spread * spread,
          cross_entropy.item<float>(), balance.item<float>(), z.item<float>(), entropy.item<float>(), spread.item<float>()};
}

RoutedLayers Transformer::routed_layers(const Batch& batch, const PassOrder& order) const {
  return {.order = order,
          .choosing = {.in_training = torch::GradMode::is_enabled(), .chance = batch.draw, .first_token = batch.first_token},
          .sequence = batch.sequence,
          .ring = batch.ring};
}

Losses Transformer::forward(const Batch& batch, const LossWeights& loss_weights, Routes* routes, const PassOrder& order) {
  if (loss_weights.passes_twice()) return forward_twice(batch, loss_weights, routes, order);
  RoutedLayers routed = routed_layers(batch, order);
  routed.with_entropy = loss_weights.entropy != 0;
  const Tensor x_TD = hidden_states(batch, routed);
  if (routed.overflowed) return {.overflowed = true};
  std::vector<float> nats_T;
  const Tensor cross_entropy = mean_cross_entropy(x_TD, head(), batch.targets_T, mode_.type, &nats_T);
  Losses losses = losses_of(cross_entropy, routed, loss_weights);
  losses.nats_T = std::move(nats_T);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return losses;
}

Routes Transformer::decide(const Batch& batch, const PassOrder& order) {
  const torch::NoGradGuard no_graph;
  RoutedLayers routed = routed_layers(batch, order);
  routed.choosing.in_training = true;
  hidden_states(batch, routed);
  return std::move(routed.routes);
}

LayersPass Transformer::forward(LayerRange layers, const Batch& batch, Handed came, const LossWeights& loss_weights, const PassOrder& order) {
  RoutedLayers routed = routed_layers(batch, order);
  routed.with_entropy = loss_weights.entropy != 0;
  const std::vector<RouterPlace> routers = routers_of(spec_);
  routed.first = static_cast<size_t>(std::ranges::count_if(routers, [&](const RouterPlace& place) { return place.layer < layers.first; }));

  LayersPass pass{.layers = layers, .came = std::move(came), .routes = Routes(routers.size())};
  const Tensor x_TD = run_layers(layers, layers.first == 0 ? enter(batch, routed) : take_over(pass.came, batch, routed), batch, routed);
  Tensor cross_entropy = torch::tensor(0.0f);
  std::vector<float> nats_T;
  if (layers.end == spec_.num_layers) {
    const Tensor normed_TD = rms_norm(x_TD, weights_.vector(Role::FinalNorm), spec_.norm_eps);
    cross_entropy = mean_cross_entropy(normed_TD, head(), batch.targets_T, mode_.type, &nats_T);
  } else {
    pass.left = hand_on(layers.end, x_TD, routed);
  }
  pass.losses = losses_of(cross_entropy, routed, loss_weights);
  pass.losses.nats_T = std::move(nats_T);
  std::ranges::move(routed.routes, pass.routes.begin() + static_cast<ptrdiff_t>(routed.first));
  return pass;
}

Handed Transformer::backward(LayersPass pass, const Batch& batch, const Handed& dleft, float share) {
  gates_.begin(batch);  // for layers that run again
  tensor_list ends, gradients;
  const auto add = [&](const Tensor& end, const Tensor& gradient) {
    if (!end.defined() || !end.requires_grad()) return;
    ends.push_back(end);
    gradients.push_back(gradient);
  };
  add(pass.losses.total, torch::tensor(share));
  for (size_t i = 0; i < pass.left.size(); ++i) add(pass.left[i], dleft[i]);
  if (!ends.empty()) torch::autograd::backward(ends, gradients);
  Handed dcame;
  for (const Tensor& came : pass.came) {
    if (!came.defined()) dcame.push_back(came);
    else dcame.push_back(came.grad().defined() ? came.grad() : torch::zeros_like(came));
  }
  return dcame;
}

std::vector<int64_t> Transformer::handed_widths(int layer) const {
  using enum spec::Gate;
  std::vector<int64_t> widths(kHanded, 0);
  widths[kStream] = spec_.width;
  const int before = spec_.moe_layer_before(layer), next = moe_layer_from(spec_, layer);
  if (next < 0) return widths;
  const spec::RouterRule& rule = spec_.moe.router;
  if (rule.gate == Decoupled) widths[kGateState] = rule.gate_width;
  if (before < 0) return widths;
  if (rule.gating_residual) widths[kLogits] = spec_.router(before).num_choices();
  if (moe_block_.has_momentum()) widths[kMomentum] = spec_.width;
  if (spec_.moe.momentum.kind == spec::Momentum::Adam) widths[kSquares] = spec_.width;
  if (rule.gate == Recurrent) widths[kGateState] = rule.gate_width;
  if (rule.gate == Ahead) widths[kAhead] = spec_.router(next).num_choices();
  return widths;
}

Tensor Transformer::take_over(const Handed& came, const Batch& batch, RoutedLayers& routed) {
  begin(batch, routed);
  gates_.begin(batch, {came[kGateState], came[kAhead]});
  routed.logits_TC = came[kLogits];
  routed.momentum_TD = came[kMomentum];
  routed.squares_TD = came[kSquares];
  return came[kStream];
}

Handed Transformer::hand_on(int layer, const Tensor& x_TD, const RoutedLayers& routed) const {
  Handed left(kHanded);
  left[kStream] = x_TD;
  left[kLogits] = routed.logits_TC;
  left[kMomentum] = routed.momentum_TD;
  left[kSquares] = routed.squares_TD;
  left[kGateState] = gates_.state().state_TG;
  left[kAhead] = gates_.state().ahead_TE;
  const std::vector<int64_t> widths = handed_widths(layer);
  for (size_t i = 0; i < left.size(); ++i) {
    if (widths[i] == 0) left[i] = Tensor();
  }
  return left;
}

// Both passes are to predict the targets and to agree. Routes and losses of the routers are those of the first.
Losses Transformer::forward_twice(const Batch& batch, const LossWeights& loss_weights, Routes* routes, const PassOrder& order) {
  Batch again = batch;
  again.draw = ~batch.draw;
  const Choosing choosing{.in_training = torch::GradMode::is_enabled(), .chance = batch.draw, .first_token = batch.first_token};
  RoutedLayers routed{.order = order, .choosing = choosing, .sequence = batch.sequence}, routed_again = routed;
  const Tensor a_TD = hidden_states(batch, routed), b_TD = hidden_states(again, routed_again);
  std::vector<float> nats_T;  // of the first
  const Tensor cross_entropy = (mean_cross_entropy(a_TD, head(), batch.targets_T, mode_.type, &nats_T) +
                                mean_cross_entropy(b_TD, head(), batch.targets_T, mode_.type)) / 2;
  const Tensor consistency = mean_consistency(a_TD, b_TD, head(), batch.targets_T, mode_.type);
  const Tensor balance = mean_of(routed.balance_losses), z = mean_of(routed.z_losses);
  if (routes != nullptr) *routes = std::move(routed.routes);
  return {loss_weights.cross_entropy * cross_entropy + loss_weights.balance * balance + loss_weights.z * z +
              loss_weights.consistency * consistency,
          cross_entropy.item<float>(), balance.item<float>(), z.item<float>(), 0, 0, consistency.item<float>(), std::move(nats_T)};
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
  const Tensor x_TD = run_layers({0, spec_.num_layers}, enter(batch, routed), batch, routed);
  return routed.overflowed ? Tensor() : rms_norm(x_TD, weights_.vector(Role::FinalNorm), spec_.norm_eps);
}

// Whose tokens come together where matrices are shared out, and angles for the longest document among them.
void Transformer::begin(const Batch& batch, RoutedLayers& routed) {
  if (tensor_ != nullptr) routed.together = bring_together(*tensor_, batch);
  int longest = 0;
  for (const Segment& segment : routed.seen(batch.segments)) longest = std::max(longest, segment.position + segment.length);
  if (static_cast<size_t>(longest) > rotary_.cosine.rows()) rotary_ = rotary_table(spec_.attention, longest);
}

// What comes before all layers.
Tensor Transformer::enter(const Batch& batch, RoutedLayers& routed) {
  begin(batch, routed);
  const Tensor x_TD = embed(anchor_, weights_.matrix(Role::Embedding), batch.tokens_T);
  Gates::State own;
  if (spec_.has_own_router()) own.state_TG = gates_.own_router(attention_block(spec_.num_layers, x_TD, batch.segments, routed));
  gates_.begin(batch, own);
  return x_TD;
}

// Undefined after an overflow.
Tensor Transformer::run_layers(LayerRange layers, Tensor x_TD, const Batch& batch, RoutedLayers& routed) {
  const bool recomputes = torch::GradMode::is_enabled() && routed.order.recompute_layers;
  for (int layer = layers.first; layer < layers.end; ++layer) {
    x_TD = recomputes ? run_layer_to_recompute(layer, x_TD, batch.segments, routed) : run_layer(layer, x_TD, batch.segments, routed);
    if (routed.overflowed) return {};
  }
  return x_TD;
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
