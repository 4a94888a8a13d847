#include "spec/model_spec.h"

#include <algorithm>
#include <cmath>

#include "spec/weight.h"

namespace moiety::spec {
namespace {

// Absurd sizes are refused before anything is allocated for them.
constexpr int64_t kMaxSize = 1 << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 65536;

// Of each role's weights, `experts` of the experts'.
int64_t count_parameters(const ModelSpec& spec, int64_t experts, bool count_embedding) {
  int64_t count = 0;
  for (const Weight& weight : weights_of(spec, false)) {
    if (weight.role == Role::Embedding && !count_embedding) continue;
    int64_t elements = is_expert(weight.role) ? experts : 1;
    for (const int64_t size : shape_of(spec, weight.role)) elements *= size;
    count += elements;
  }
  return count;
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

int64_t ModelSpec::parameters() const { return count_parameters(*this, moe.router.num_experts, true); }

int64_t ModelSpec::active_parameters() const {
  return count_parameters(*this, std::min(moe.router.experts_per_token, moe.router.num_experts), tied_embeddings);
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
}

void check_score(const Checker& c, const RouterRule& r) {
  c.positive("the routers' temperature", r.temperature);
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

void check_gate(const Checker& c, const MoeSpec& moe) {
  const RouterRule& r = moe.router;
  const bool has_width = r.gate == Gate::Cosine || r.gate == Gate::Recurrent || r.gate == Gate::Decoupled;
  c.in_range("the gate's width", r.gate_width, has_width ? 1 : 0, kMaxSize);
  c.positive("the gate's temperature", r.gate_temperature);
  c.positive("the width of the gate's step", r.gate_step);
  require(r.is_learnt() || (!r.has_selection_bias && !moe.router_bias && r.num_groups == 1),
          "{}: a hash or random gate with biases or groups of experts; such a gate leaves nothing to steer", c.where);
  require((r.is_learnt() && r.gate != Gate::Tree) || r.score == Score::Softmax,
          "{}: a hash, random or tree gate without softmax scores, which are what makes its logits weights", c.where);
  if (r.gate == Gate::Tree) c.in_range("the number of experts of a tree gate", r.num_experts, 2, kMaxExperts);
  require((r.is_learnt() && r.gate != Gate::Tree) || (r.select == Select::TopK && r.zero_cost_experts() == 0 && !r.gating_residual),
          "{}: a hash, random or tree gate chooses itself: it goes with the selection top_k, and without experts that cost nothing "
          "and gating residuals", c.where);
}

void check_moe(const Checker& c, const MoeSpec& moe) {
  const RouterRule& r = moe.router;
  c.in_range("the number of experts", r.num_experts, 1, kMaxExperts);
  c.in_range("the number of null experts", r.null_experts, 0, kMaxExperts);
  c.in_range("the number of zero experts", r.zero_experts, 0, kMaxExperts);
  c.in_range("the number of copy experts", r.copy_experts, 0, kMaxExperts);
  c.in_range("the number of constant experts", r.constant_experts, 0, kMaxExperts);
  c.in_range("experts per token", r.experts_per_token, 1, r.num_choices());
  check_gate(c, moe);
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
  c.in_range("the expert hidden size", moe.expert_hidden, 1, kMaxSize);
  c.in_range("the shared hidden size", moe.shared_hidden, 0, kMaxSize);
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
  if (s.moe_layers() > 0) check_moe(c, s.moe);
  if (s.moe_layers() < s.num_layers) c.in_range("the dense hidden size", s.dense_hidden, 1, kMaxSize);
  for (const int eos : s.eos_tokens) c.in_range("an end-of-text token", eos, 0, s.vocab_size - 1);
  c.in_range("the beginning-of-text token", s.bos_token, -1, s.vocab_size - 1);
}

}  // namespace moiety::spec
