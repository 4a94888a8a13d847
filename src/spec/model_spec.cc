#include "spec/model_spec.h"

#include <algorithm>
#include <cmath>

#include "spec/expert_kind.h"
#include "spec/weight.h"

namespace moiety::spec {
namespace {

// Absurd sizes are refused before anything is allocated for them.
constexpr int64_t kMaxSize = 1 << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 65536;

int64_t elements_of(const ModelSpec& spec, const Weight& weight) {
  int64_t elements = 1;
  for (const int64_t size : shape_of(spec, weight.role, weight.layer)) elements *= size;
  return elements;
}

}  // namespace

float AttentionSpec::scale() const {
  return score_scale > 0 ? score_scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
}

int ModelSpec::moe_layers() const {
  return static_cast<int>(std::count(feed_forward.begin(), feed_forward.end(), FeedForward::Moe));
}

int ModelSpec::leading_dense_layers() const {
  return static_cast<int>(std::ranges::find(feed_forward, FeedForward::Moe) - feed_forward.begin());
}

int ModelSpec::moe_layer_before(int layer) const {
  do --layer;
  while (layer >= 0 && feed_forward[layer] != FeedForward::Moe);
  return layer;
}

int ModelSpec::experts(int layer) const {
  if (feed_forward[static_cast<size_t>(layer)] == FeedForward::Dense) return 0;
  return moe.experts_L.empty() ? moe.router.num_experts : moe.experts_L[static_cast<size_t>(layer)];
}

RouterRule ModelSpec::router(int layer) const {
  RouterRule rule = moe.router;
  rule.num_experts = experts(layer);
  return rule;
}

int64_t ModelSpec::parameters() const {
  int64_t count = 0;
  for (const Weight& weight : weights_of(*this, false)) {
    count += elements_of(*this, weight) * (is_expert(weight.role) ? experts_with(*this, weight.layer, weight.role) : 1);
  }
  return count;
}

int64_t ModelSpec::active_parameters() const {
  int64_t count = 0;
  for (const Weight& weight : weights_of(*this, false)) {
    if (weight.role == Role::Embedding && !tied_embeddings) continue;
    int64_t elements = elements_of(*this, weight);
    if (is_expert(weight.role)) {  // visited evenly, whatever their kinds
      const int64_t visits = int64_t{moe.router.most_experts()} * moe.iterations;
      elements = elements * visits * experts_with(*this, weight.layer, weight.role) / experts(weight.layer);
    }
    if (is_attention_expert(weight.role)) elements = elements / attention.experts->num_experts * attention.experts->experts_per_token;
    count += elements;
  }
  return count;
}

namespace {

// Throws with the field's name.
struct Checker {
  const std::string& where;

  void in_range(const char* field, int64_t value, int64_t low, int64_t high) const {
    require(value >= low && value <= high, "{}: {} is {}, expected {} to {}", where, field, value, low, high);
  }
  void positive(const char* field, float value) const {
    require(value > 0 && std::isfinite(value), "{}: {} is {}, expected a number above 0", where, field, value);
  }
};

void check_rope(const Checker& c, const AttentionSpec& a) {
  const RopeScaling& s = a.rope.scaling;
  c.positive("rope theta", a.rope.theta);
  c.in_range("the number of rotated dimensions", a.rope_dim(), 2, a.head_dim);
  require(a.rope_dim() % 2 == 0, "{}: {} rotated dimensions, expected an even number", c.where, a.rope_dim());
  c.positive("the rope scaling's factor", s.factor);
  c.positive("the rope scaling's amplitude", s.amplitude);
  c.positive("the rope scaling's long amplitude", s.long_amplitude);
  const bool needs_original = s.kind == RopeScalingKind::Llama3 || s.kind == RopeScalingKind::Yarn;
  c.in_range("the rope scaling's original positions", s.original_positions, needs_original ? 1 : 0, INT32_MAX);
  if (s.kind == RopeScalingKind::Llama3) {
    c.positive("the rope scaling's low frequency factor", s.low_frequency);
    require(s.high_frequency > s.low_frequency,
            "{}: the rope scaling's high frequency factor is {}, expected more than the low one's {}", c.where,
            s.high_frequency, s.low_frequency);
  }
  if (s.kind == RopeScalingKind::Yarn) {
    c.positive("the rope scaling's beta_slow", s.beta_slow);
    c.positive("the rope scaling's beta_fast", s.beta_fast);
    require(a.rope.theta > 1, "{}: yarn needs a rope theta above 1, found {}", c.where, a.rope.theta);
  }
  if (s.kind == RopeScalingKind::Factors) {
    for (const auto* factors : {&s.short_factors, &s.long_factors}) {
      require(static_cast<int>(factors->size()) == a.rope_dim() / 2, "{}: {} rope factors, expected {}", c.where,
              factors->size(), a.rope_dim() / 2);
      for (const float factor : *factors) c.positive("a rope factor", factor);
    }
  }
}

void check_latent(const Checker& c, const AttentionSpec& a) {
  const LatentSpec& latent = *a.latent;
  c.in_range("the rank of the queries", latent.query_rank, 0, kMaxSize);
  c.in_range("the rank of keys and values", latent.kv_rank, 1, kMaxSize);
  c.in_range("the unrotated head dimension", latent.plain_dim, 1, 65536);
  c.in_range("the rotated head dimension", latent.rope_dim, 2, 65536);
  c.in_range("the head dimension of values", latent.value_dim, 1, 65536);
  require(a.head_dim == latent.plain_dim + latent.rope_dim, "{}: a head of {}, expected {} unrotated + {} rotated",
          c.where, a.head_dim, latent.plain_dim, latent.rope_dim);
  require(a.qk_norm == QkNorm::None && !a.qkv_bias && a.clip_qkv == 0,
          "{}: latent attention with biases, norms or clipping of queries is not supported", c.where);
}

void check_attention_experts(const Checker& c, const AttentionSpec& a) {
  const AttentionExperts& experts = *a.experts;
  c.in_range("the number of attention experts", experts.num_experts, 1, kMaxExperts);
  c.in_range("attention experts per token", experts.experts_per_token, 1, experts.num_experts);
  require(a.num_heads % experts.experts_per_token == 0 && a.expert_heads() % a.num_kv_heads == 0,
          "{}: {} attention heads can't be shared evenly by {} experts of {} key-value heads", c.where, a.num_heads,
          experts.experts_per_token, a.num_kv_heads);
  require(!a.latent && !a.qkv_bias && !a.sinks && a.qk_norm != QkNorm::Whole,
          "{}: attention experts with latent attention, query biases, sinks or norms over all heads are not supported", c.where);
}

void check_attention(const Checker& c, const AttentionSpec& a, int num_layers) {
  c.in_range("the number of attention heads", a.num_heads, 1, kMaxSize);
  c.in_range("the number of key-value heads", a.num_kv_heads, 1, a.num_heads);
  require(a.num_heads % a.num_kv_heads == 0, "{}: {} attention heads can't be shared evenly by {} key-value heads",
          c.where, a.num_heads, a.num_kv_heads);
  c.in_range("the head dimension", a.head_dim, 2, 65536 * 2);
  require(a.latent || a.rope.dim > 0 || a.head_dim % 2 == 0, "{}: the head dimension is {}, expected an even number",
          c.where, a.head_dim);
  require(a.score_scale >= 0 && std::isfinite(a.score_scale), "{}: attention scores are scaled by {}", c.where,
          a.score_scale);
  c.in_range("the sliding window", a.sliding_window, 0, INT32_MAX);
  require(a.windowed.empty() || static_cast<int>(a.windowed.size()) == num_layers,
          "{}: it is said of {} layers whether they have a sliding window, of {}", c.where, a.windowed.size(), num_layers);
  check_rope(c, a);
  if (a.latent) check_latent(c, a);
  if (a.experts) check_attention_experts(c, a);
  require(a.is_rotated() || (!a.latent && !a.sinks), "{}: stick-breaking attention with latent attention or sinks is not supported", c.where);
}

void check_score(const Checker& c, const RouterRule& r) {
  c.positive("the routers' temperature", r.temperature);
  require(r.score != Score::Logits || r.weigh == Weigh::SparseMixer || !r.renormalise,
          "{}: logits as scores have no sum to divide weights by", c.where);
  require(r.weigh != Weigh::SparseMixer || (r.score == Score::Logits && r.select == Select::TopK),
          "{}: SparseMixer weighs the logits of the top k", c.where);
}

// What a selection needs of the other stages.
void check_selection(const Checker& c, const RouterRule& r) {
  const bool needs_shares = r.select == Select::TopP || r.select == Select::Tsallis;
  require(!needs_shares || (r.score == Score::Softmax && r.top_p > 0 && r.top_p <= 1),
          "{}: a selection by top_p needs softmax scores and a number above 0 up to 1, found {}", c.where, r.top_p);
  require(r.select != Select::Tsallis || (r.tsallis_q > 0 && std::isfinite(r.tsallis_q) && r.soft_entropy >= 0 && r.soft_entropy <= 1),
          "{}: Tsallis' entropy needs an index above 0 and a limit from 0 to 1, found {} and {}", c.where, r.tsallis_q,
          r.soft_entropy);
  require(std::isfinite(r.threshold), "{}: the routers' threshold is {}", c.where, r.threshold);
  require(r.select != Select::Grouped || (r.experts_per_token % r.num_groups == 0 && r.groups_per_token == r.num_groups),
          "{}: {} experts per token can't be taken evenly from {} of {} groups", c.where, r.experts_per_token,
          r.groups_per_token, r.num_groups);
  require(r.num_groups == 1 || r.select == Select::TopK || r.select == Select::Grouped,
          "{}: groups of experts are for the selections top_k and grouped", c.where);
  require(r.select != Select::ExpertChoice || r.has_selection_bias,
          "{}: expert choice needs a selection bias, which holds the experts' cut-offs", c.where);
  require(r.zero_cost_experts() == 0 ||
              (r.num_groups == 1 && r.select != Select::ExpertChoice && r.weigh == Weigh::Scores),
          "{}: experts that cost nothing don't go with groups, expert choice or SparseMixer", c.where);
}

void check_gate(const Checker& c, const RouterRule& r) {
  const bool has_width = r.gate == Gate::Cosine || r.gate == Gate::Recurrent || r.gate == Gate::Decoupled;
  c.in_range("the gate's width", r.gate_width, has_width ? 1 : 0, kMaxSize);
  c.positive("the gate's temperature", r.gate_temperature);
  c.positive("the width of the gate's step", r.gate_step);
  require(r.is_learnt() || (!r.has_selection_bias && r.num_groups == 1),
          "{}: a hash or random gate with biases or groups of experts; such a gate leaves nothing to steer", c.where);
  require((r.is_learnt() && r.gate != Gate::Tree) || r.score == Score::Softmax,
          "{}: a hash, random or tree gate without softmax scores, which are what makes its logits weights", c.where);
  if (r.gate == Gate::Tree) c.in_range("the number of experts of a tree gate", r.num_experts, 2, kMaxExperts);
  require((r.is_learnt() && r.gate != Gate::Tree) || (r.select == Select::TopK && r.zero_cost_experts() == 0 && !r.gating_residual),
          "{}: a hash, random or tree gate chooses itself: it goes with the selection top_k, and without experts that cost nothing "
          "and gating residuals", c.where);
}

void check_rule(const Checker& c, const RouterRule& r) {
  require(!r.gating_residual || (r.gate != Gate::Ahead && r.gate != Gate::Decoupled),
          "{}: gating residuals with a gate that chooses before the layer before has", c.where);
  c.in_range("the number of experts", r.num_experts, 1, kMaxExperts);
  c.in_range("the number of null experts", r.null_experts, 0, kMaxExperts);
  c.in_range("the number of zero experts", r.zero_experts, 0, kMaxExperts);
  c.in_range("the number of copy experts", r.copy_experts, 0, kMaxExperts);
  c.in_range("the number of constant experts", r.constant_experts, 0, kMaxExperts);
  c.in_range("experts per token", r.experts_per_token, 1, r.num_choices());
  check_gate(c, r);
  c.in_range("the number of expert groups", r.num_groups, 1, r.num_experts);
  require(r.num_experts % r.num_groups == 0, "{}: {} experts can't be divided evenly into {} groups", c.where,
          r.num_experts, r.num_groups);
  c.in_range("groups per token", r.groups_per_token, 1, r.num_groups);
  require(r.num_groups == 1 || r.experts_per_token <= r.num_experts / r.num_groups * r.groups_per_token,
          "{}: {} experts per token, but {} groups hold only {}", c.where, r.experts_per_token, r.groups_per_token,
          r.num_experts / r.num_groups * r.groups_per_token);
  check_score(c, r);
  check_selection(c, r);
  require(std::isfinite(r.scale), "{}: the routers' weights are scaled by {}", c.where, r.scale);
  require(r.sparse_mixer_reach >= 0 && std::isfinite(r.sparse_mixer_reach), "{}: SparseMixer's reach is {}", c.where,
          r.sparse_mixer_reach);
}

// Numbers of experts by layer, the largest of them the rule's.
void check_layers(const Checker& c, const ModelSpec& s) {
  const std::vector<int>& experts_L = s.moe.experts_L;
  if (experts_L.empty()) return;
  require(static_cast<int>(experts_L.size()) == s.num_layers, "{}: numbers of experts of {} layers, of {}", c.where, experts_L.size(),
          s.num_layers);
  for (int layer = 0; layer < s.num_layers; ++layer) {
    const bool is_dense = s.feed_forward[static_cast<size_t>(layer)] == FeedForward::Dense;
    const int experts = experts_L[static_cast<size_t>(layer)];
    require(!is_dense || experts == 0, "{}: {} experts in layer {}, which is dense", c.where, experts, layer);
    if (!is_dense) check_rule(c, s.router(layer));
  }
  const int largest = *std::ranges::max_element(experts_L);
  require(largest == s.moe.router.num_experts, "{}: {} experts, but the layer that has most has {}", c.where,
          s.moe.router.num_experts, largest);
}

void check_momentum(const Checker& c, const MomentumSpec& m) {
  require(m.decay >= 0 && m.decay < 1, "{}: momentum decays by {}, expected 0 to 1", c.where, m.decay);
  require(m.square_decay >= 0 && m.square_decay < 1, "{}: the momentum's squares decay by {}, expected 0 to 1", c.where, m.square_decay);
  c.positive("the momentum's step", m.step);
  c.positive("the momentum's epsilon", m.eps);
}

void check_gru_experts(const Checker& c, const ModelSpec& s) {
  const MoeSpec& moe = s.moe;
  int fewest = moe.router.num_experts;  // of a sparse layer
  for (const int experts : moe.experts_L) fewest = experts > 0 ? std::min(fewest, experts) : fewest;
  c.in_range("the number of GRU experts", moe.gru_experts, 0, fewest - 1);
  c.in_range("the GRU experts' hidden size", moe.gru_hidden, moe.gru_experts > 0 ? 1 : 0, kMaxSize);
  require(moe.gru_experts == 0 || moe.iterations == 1, "{}: GRU experts in a chain of experts are not supported", c.where);
}

void check_moe(const Checker& c, const ModelSpec& s) {
  const MoeSpec& moe = s.moe;
  check_rule(c, moe.router);
  check_layers(c, s);
  check_momentum(c, moe.momentum);
  c.in_range("the iterations of a chain of experts", moe.iterations, 1, 64);
  c.in_range("the experts' width", moe.expert_width, 0, s.width);
  require(!moe.output_bias || moe.iterations == 1, "{}: a bias after experts in a chain of them is not supported", c.where);
  c.in_range("the expert hidden size", moe.expert_hidden, 1, kMaxSize);
  c.in_range("the shared hidden size", moe.shared_hidden, 0, kMaxSize);
  require(!moe.shared_mix || (moe.shared_hidden > 0 && !moe.shared_gate && moe.iterations == 1),
          "{}: shared experts are mixed with the others, which needs shared experts without a gate and one iteration", c.where);
  require(moe.router.is_learnt() || !moe.router_bias, "{}: a hash or random gate with biases, which leaves nothing to steer", c.where);
  const bool is_plain = moe.router.gate == Gate::Linear && moe.router.zero_cost_experts() == 0 && !moe.router.gating_residual;
  require(moe.iterations == 1 || is_plain, "{}: a chain of experts has linear gates, without residuals or experts that cost nothing",
          c.where);
  require(moe.experts_L.empty() || !moe.router.gating_residual,
          "{}: gating residuals need the same number of experts in all layers", c.where);
  require(!s.attention.experts || moe.router.gate != Gate::Decoupled,
          "{}: attention experts with a decoupled gate, which has attention of its own, are not supported", c.where);
  require(!moe.ternary_experts || !moe.expert_bias, "{}: ternary experts with biases are not supported", c.where);
  check_gru_experts(c, s);
}

}  // namespace

void check(const ModelSpec& s, const std::string& where) {
  const Checker c{where};
  c.in_range("the number of layers", s.num_layers, 1, kMaxLayers);
  c.in_range("the model width", s.width, 1, kMaxSize);
  c.in_range("the vocabulary size", s.vocab_size, 1, kMaxSize);
  require(s.norm_eps >= 0 && s.norm_eps < 1, "{}: the norm's epsilon is {}, expected 0 to 1", where, s.norm_eps);
  c.positive("the embedding's scale", s.embedding_scale);
  c.positive("the residual stream's scale", s.residual_scale);
  c.positive("the logits' scale", s.logit_scale);
  check_attention(c, s.attention, s.num_layers);
  require(static_cast<int>(s.feed_forward.size()) == s.num_layers,
          "{}: {} feed-forward kinds for {} layers", where, s.feed_forward.size(), s.num_layers);
  if (s.moe_layers() > 0) check_moe(c, s);
  if (s.moe_layers() < s.num_layers) c.in_range("the dense hidden size", s.dense_hidden, 1, kMaxSize);
  for (const int eos : s.eos_tokens) c.in_range("an end-of-text token", eos, 0, s.vocab_size - 1);
  c.in_range("the beginning-of-text token", s.bos_token, -1, s.vocab_size - 1);
}

}  // namespace moiety::spec
