// ModelSpec as our own config.json has it: every field by its name.
#include <array>
#include <utility>

#include "spec/model_spec.h"

namespace moiety::spec {
namespace {

constexpr int64_t kMaxSize = 1 << 24;  // check() has the real bounds

template <class E, size_t N>
using Names = std::array<std::pair<E, const char*>, N>;

constexpr Names<QkNorm, 3> kQkNorms{
    {{QkNorm::None, "none"}, {QkNorm::PerHead, "per_head"}, {QkNorm::Whole, "whole"}}};
constexpr Names<AttentionWeigh, 2> kAttentionWeighs{
    {{AttentionWeigh::Softmax, "softmax"}, {AttentionWeigh::StickBreaking, "stick_breaking"}}};
constexpr Names<Norm, 2> kNorms{{{Norm::Rms, "rms"}, {Norm::Layer, "layer"}}};
constexpr Names<Gate, 8> kGates{{{Gate::Linear, "linear"},
                                  {Gate::Cosine, "cosine"},
                                  {Gate::Hash, "hash"},
                                  {Gate::Random, "random"},
                                  {Gate::Recurrent, "recurrent"},
                                  {Gate::Tree, "tree"},
                                  {Gate::Ahead, "ahead"},
                                  {Gate::Decoupled, "decoupled"}}};
constexpr Names<Score, 3> kScores{
    {{Score::Softmax, "softmax"}, {Score::Sigmoid, "sigmoid"}, {Score::Logits, "logits"}}};
constexpr Names<LogitActivation, 4> kLogitActivations{{{LogitActivation::None, "none"},
                                                       {LogitActivation::Tanh, "tanh"},
                                                       {LogitActivation::Sigmoid, "sigmoid"},
                                                       {LogitActivation::Silu, "silu"}}};
constexpr Names<Select, 6> kSelects{{{Select::TopK, "top_k"},
                                     {Select::Grouped, "grouped"},
                                     {Select::TopP, "top_p"},
                                     {Select::Threshold, "threshold"},
                                     {Select::ExpertChoice, "expert_choice"},
                                     {Select::Tsallis, "tsallis"}}};
constexpr Names<GroupScore, 2> kGroupScores{{{GroupScore::Best, "best"}, {GroupScore::BestTwo, "best_two"}}};
constexpr Names<Weigh, 2> kWeighs{{{Weigh::Scores, "scores"}, {Weigh::SparseMixer, "sparse_mixer"}}};
constexpr Names<Activation, 2> kActivations{
    {{Activation::SwiGlu, "swiglu"}, {Activation::ClampedSwiGlu, "clamped_swiglu"}}};
constexpr Names<Momentum, 3> kMomentums{
    {{Momentum::None, "none"}, {Momentum::HeavyBall, "heavy_ball"}, {Momentum::Adam, "adam"}}};
constexpr Names<RopePairs, 2> kRopePairs{{{RopePairs::Halves, "halves"}, {RopePairs::Neighbours, "neighbours"}}};
constexpr Names<RopeScalingKind, 5> kRopeScalings{{{RopeScalingKind::None, "none"},
                                                   {RopeScalingKind::Linear, "linear"},
                                                   {RopeScalingKind::Llama3, "llama3"},
                                                   {RopeScalingKind::Yarn, "yarn"},
                                                   {RopeScalingKind::Factors, "factors"}}};
constexpr Names<FeedForward, 2> kFeedForwards{{{FeedForward::Dense, "dense"}, {FeedForward::Moe, "moe"}}};

template <class E, size_t N>
const char* to_name(const Names<E, N>& names, E value) {
  for (const auto& [v, name] : names) {
    if (v == value) return name;
  }
  return "?";
}

template <class E, size_t N>
E from_name(const Names<E, N>& names, const std::string& name, const std::string& where) {
  std::string expected;
  for (const auto& [v, n] : names) {
    if (name == n) return v;
    expected += (expected.empty() ? "" : ", ") + std::string(n);
  }
  fail(ErrorKind::Input, "{}: found \"{}\", expected one of {}", where, name, expected);
}

// The named choice under `key`, or the first of the list.
template <class E, size_t N>
E choice(const JsonObject& object, const char* key, const Names<E, N>& names) {
  return from_name(names, object.text(key, names[0].second), object.where() + ": " + key);
}

int size_field(const JsonObject& object, const char* key, int64_t high = kMaxSize) {
  return static_cast<int>(object.integer(key, 0, high, 0));
}

float number(const JsonObject& object, const char* key, float otherwise) {
  return static_cast<float>(object.number(key, otherwise));
}

std::vector<float> numbers(const JsonObject& object, const char* key) {
  std::vector<float> values;
  if (!object.has(key)) return values;
  for (const Json& value : object.array(key)) {
    require(value.is_number(), "{}: {} must be a list of numbers", object.where(), key);
    values.push_back(value.get<float>());
  }
  return values;
}

std::vector<int> sizes(const JsonObject& object, const char* key) {
  std::vector<int> values;
  if (!object.has(key)) return values;
  for (const Json& value : object.array(key)) {
    require(value.is_number_integer() && value.get<int64_t>() >= 0 && value.get<int64_t>() <= kMaxSize,
            "{}: {} must be a list of numbers from 0 to {}", object.where(), key, kMaxSize);
    values.push_back(value.get<int>());
  }
  return values;
}

Json rope_to_json(const RopeSpec& rope) {
  const RopeScaling& s = rope.scaling;
  Json json = {{"theta", rope.theta}, {"pairs", to_name(kRopePairs, rope.pairs)}, {"dim", rope.dim}};
  if (s.kind == RopeScalingKind::None) return json;
  json["scaling"] = {{"kind", to_name(kRopeScalings, s.kind)},
                     {"factor", s.factor},
                     {"original_positions", s.original_positions},
                     {"low_frequency", s.low_frequency},
                     {"high_frequency", s.high_frequency},
                     {"beta_fast", s.beta_fast},
                     {"beta_slow", s.beta_slow},
                     {"truncate", s.truncate},
                     {"short_factors", s.short_factors},
                     {"long_factors", s.long_factors},
                     {"amplitude", s.amplitude},
                     {"long_amplitude", s.long_amplitude}};
  return json;
}

RopeSpec rope_from_json(const JsonObject& json) {
  RopeSpec rope;
  rope.theta = static_cast<float>(json.number("theta"));
  rope.pairs = choice(json, "pairs", kRopePairs);
  rope.dim = size_field(json, "dim");
  if (!json.has("scaling")) return rope;
  const JsonObject scaling = json.object("scaling");
  RopeScaling& s = rope.scaling;
  s.kind = choice(scaling, "kind", kRopeScalings);
  s.factor = number(scaling, "factor", s.factor);
  s.original_positions = size_field(scaling, "original_positions", INT32_MAX);
  s.low_frequency = number(scaling, "low_frequency", s.low_frequency);
  s.high_frequency = number(scaling, "high_frequency", s.high_frequency);
  s.beta_fast = number(scaling, "beta_fast", s.beta_fast);
  s.beta_slow = number(scaling, "beta_slow", s.beta_slow);
  s.truncate = scaling.boolean("truncate", s.truncate);
  s.short_factors = numbers(scaling, "short_factors");
  s.long_factors = numbers(scaling, "long_factors");
  s.amplitude = number(scaling, "amplitude", s.amplitude);
  s.long_amplitude = number(scaling, "long_amplitude", s.long_amplitude);
  return rope;
}

Json attention_to_json(const AttentionSpec& a) {
  Json json = {{"num_heads", a.num_heads},
               {"num_kv_heads", a.num_kv_heads},
               {"head_dim", a.head_dim},
               {"qk_norm", to_name(kQkNorms, a.qk_norm)},
               {"qkv_bias", a.qkv_bias},
               {"output_bias", a.output_bias},
               {"weigh", to_name(kAttentionWeighs, a.weigh)},
               {"sinks", a.sinks},
               {"rope", rope_to_json(a.rope)},
               {"score_scale", a.score_scale},
               {"sliding_window", a.sliding_window},
               {"windowed", a.windowed},
               {"clip_qkv", a.clip_qkv}};
  if (a.latent) {
    json["latent"] = {{"query_rank", a.latent->query_rank},
                      {"kv_rank", a.latent->kv_rank},
                      {"plain_dim", a.latent->plain_dim},
                      {"rope_dim", a.latent->rope_dim},
                      {"value_dim", a.latent->value_dim}};
  }
  if (a.experts) {
    json["experts"] = {{"num_experts", a.experts->num_experts}, {"experts_per_token", a.experts->experts_per_token}};
  }
  return json;
}

AttentionSpec attention_from_json(const JsonObject& json) {
  AttentionSpec a;
  a.num_heads = size_field(json, "num_heads");
  a.num_kv_heads = size_field(json, "num_kv_heads");
  a.head_dim = size_field(json, "head_dim");
  a.qk_norm = choice(json, "qk_norm", kQkNorms);
  a.qkv_bias = json.boolean("qkv_bias", false);
  a.output_bias = json.boolean("output_bias", false);
  a.weigh = choice(json, "weigh", kAttentionWeighs);
  a.sinks = json.boolean("sinks", false);
  a.rope = rope_from_json(json.object("rope"));
  a.score_scale = number(json, "score_scale", 0);
  a.sliding_window = size_field(json, "sliding_window", INT32_MAX);
  if (json.has("windowed")) {
    for (const Json& windowed : json.array("windowed")) {
      require(windowed.is_boolean(), "{}: windowed must be a list of true and false", json.where());
      a.windowed.push_back(windowed.get<bool>());
    }
  }
  a.clip_qkv = number(json, "clip_qkv", 0);
  if (json.has("latent")) {
    const JsonObject latent = json.object("latent");
    a.latent = LatentSpec{.query_rank = size_field(latent, "query_rank"),
                          .kv_rank = size_field(latent, "kv_rank"),
                          .plain_dim = size_field(latent, "plain_dim"),
                          .rope_dim = size_field(latent, "rope_dim"),
                          .value_dim = size_field(latent, "value_dim")};
  }
  if (json.has("experts")) {
    const JsonObject experts = json.object("experts");
    a.experts = AttentionExperts{size_field(experts, "num_experts"), size_field(experts, "experts_per_token")};
  }
  return a;
}

Json momentum_to_json(const MomentumSpec& m) {
  return {{"kind", to_name(kMomentums, m.kind)}, {"decay", m.decay}, {"square_decay", m.square_decay}, {"step", m.step}, {"eps", m.eps}};
}

MomentumSpec momentum_from_json(const JsonObject& json) {
  MomentumSpec m;
  m.kind = choice(json, "kind", kMomentums);
  m.decay = number(json, "decay", m.decay);
  m.square_decay = number(json, "square_decay", m.square_decay);
  m.step = number(json, "step", m.step);
  m.eps = number(json, "eps", m.eps);
  return m;
}

Json moe_to_json(const MoeSpec& moe) {
  const RouterRule& r = moe.router;
  return {{"num_experts", r.num_experts},
          {"experts_per_token", r.experts_per_token},
          {"logit_activation", to_name(kLogitActivations, r.logit_activation)},
          {"temperature", r.temperature},
          {"gate", to_name(kGates, r.gate)},
          {"gate_width", r.gate_width},
          {"gate_temperature", r.gate_temperature},
          {"gate_learns_temperature", r.gate_learns_temperature},
          {"gate_step", r.gate_step},
          {"gate_seed", r.gate_seed},
          {"score", to_name(kScores, r.score)},
          {"gating_residual", r.gating_residual},
          {"select", to_name(kSelects, r.select)},
          {"selection_bias", r.has_selection_bias},
          {"num_groups", r.num_groups},
          {"groups_per_token", r.groups_per_token},
          {"group_score", to_name(kGroupScores, r.group_score)},
          {"top_p", r.top_p},
          {"threshold", r.threshold},
          {"tsallis_q", r.tsallis_q},
          {"soft_entropy", r.soft_entropy},
          {"null_experts", r.null_experts},
          {"zero_experts", r.zero_experts},
          {"copy_experts", r.copy_experts},
          {"constant_experts", r.constant_experts},
          {"weigh", to_name(kWeighs, r.weigh)},
          {"renormalise", r.renormalise},
          {"scale", r.scale},
          {"sparse_mixer_reach", r.sparse_mixer_reach},
          {"router_bias", moe.router_bias},
          {"experts_by_layer", moe.experts_L},
          {"iterations", moe.iterations},
          {"expert_width", moe.expert_width},
          {"ternary_experts", moe.ternary_experts},
          {"momentum", momentum_to_json(moe.momentum)},
          {"expert_hidden", moe.expert_hidden},
          {"gru_experts", moe.gru_experts},
          {"gru_hidden", moe.gru_hidden},
          {"expert_bias", moe.expert_bias},
          {"output_bias", moe.output_bias},
          {"activation", to_name(kActivations, moe.activation)},
          {"shared_hidden", moe.shared_hidden},
          {"shared_gate", moe.shared_gate},
          {"shared_mix", moe.shared_mix}};
}

MoeSpec moe_from_json(const JsonObject& json) {
  MoeSpec moe;
  RouterRule& r = moe.router;
  r.num_experts = size_field(json, "num_experts");
  r.experts_per_token = size_field(json, "experts_per_token");
  r.logit_activation = choice(json, "logit_activation", kLogitActivations);
  r.temperature = number(json, "temperature", r.temperature);
  r.gate = choice(json, "gate", kGates);
  r.gate_width = size_field(json, "gate_width");
  r.gate_temperature = number(json, "gate_temperature", r.gate_temperature);
  r.gate_learns_temperature = json.boolean("gate_learns_temperature", false);
  r.gate_step = number(json, "gate_step", r.gate_step);
  r.gate_seed = json.integer("gate_seed", 0, INT64_MAX, 0);
  r.score = choice(json, "score", kScores);
  r.gating_residual = json.boolean("gating_residual", false);
  r.select = choice(json, "select", kSelects);
  r.has_selection_bias = json.boolean("selection_bias", false);
  r.num_groups = static_cast<int>(json.integer("num_groups", 1, kMaxSize, 1));
  r.groups_per_token = static_cast<int>(json.integer("groups_per_token", 1, kMaxSize, 1));
  r.group_score = choice(json, "group_score", kGroupScores);
  r.top_p = number(json, "top_p", r.top_p);
  r.threshold = number(json, "threshold", r.threshold);
  r.tsallis_q = number(json, "tsallis_q", r.tsallis_q);
  r.soft_entropy = number(json, "soft_entropy", r.soft_entropy);
  r.null_experts = size_field(json, "null_experts");
  r.zero_experts = size_field(json, "zero_experts");
  r.copy_experts = size_field(json, "copy_experts");
  r.constant_experts = size_field(json, "constant_experts");
  r.weigh = choice(json, "weigh", kWeighs);
  r.renormalise = json.boolean("renormalise", true);
  r.scale = number(json, "scale", 1);
  r.sparse_mixer_reach = number(json, "sparse_mixer_reach", r.sparse_mixer_reach);
  moe.router_bias = json.boolean("router_bias", false);
  moe.experts_L = sizes(json, "experts_by_layer");
  moe.iterations = static_cast<int>(json.integer("iterations", 1, kMaxSize, 1));
  moe.expert_width = size_field(json, "expert_width");
  moe.ternary_experts = json.boolean("ternary_experts", false);
  if (json.has("momentum")) moe.momentum = momentum_from_json(json.object("momentum"));
  moe.expert_hidden = size_field(json, "expert_hidden");
  moe.gru_experts = size_field(json, "gru_experts");
  moe.gru_hidden = size_field(json, "gru_hidden");
  moe.expert_bias = json.boolean("expert_bias", false);
  moe.output_bias = json.boolean("output_bias", false);
  moe.activation = choice(json, "activation", kActivations);
  moe.shared_hidden = size_field(json, "shared_hidden");
  moe.shared_gate = json.boolean("shared_gate", false);
  moe.shared_mix = json.boolean("shared_mix", false);
  return moe;
}

}  // namespace

Json to_json(const ModelSpec& s) {
  Json layers = Json::array();
  for (const FeedForward kind : s.feed_forward) layers.push_back(to_name(kFeedForwards, kind));
  return {{"model_type", "moiety"},
          {"num_layers", s.num_layers},
          {"width", s.width},
          {"vocab_size", s.vocab_size},
          {"max_positions", s.max_positions},
          {"norm", to_name(kNorms, s.norm)},
          {"norm_eps", s.norm_eps},
          {"tied_embeddings", s.tied_embeddings},
          {"head_bias", s.head_bias},
          {"embedding_scale", s.embedding_scale},
          {"residual_scale", s.residual_scale},
          {"logit_scale", s.logit_scale},
          {"attention", attention_to_json(s.attention)},
          {"moe", moe_to_json(s.moe)},
          {"dense_hidden", s.dense_hidden},
          {"feed_forward", layers},
          {"bos_token", s.bos_token},
          {"eos_tokens", s.eos_tokens}};
}

ModelSpec model_spec_from_json(const Json& json, const std::string& where) {
  const JsonObject root(json, where);
  ModelSpec s{.family = "moiety"};
  s.num_layers = size_field(root, "num_layers");
  s.width = size_field(root, "width");
  s.vocab_size = size_field(root, "vocab_size");
  s.max_positions = size_field(root, "max_positions", INT32_MAX);
  s.norm = choice(root, "norm", kNorms);
  s.norm_eps = static_cast<float>(root.number("norm_eps"));
  s.tied_embeddings = root.boolean("tied_embeddings", false);
  s.head_bias = root.boolean("head_bias", false);
  s.embedding_scale = number(root, "embedding_scale", 1);
  s.residual_scale = number(root, "residual_scale", 1);
  s.logit_scale = number(root, "logit_scale", 1);
  s.attention = attention_from_json(root.object("attention"));
  s.moe = moe_from_json(root.object("moe"));

  s.dense_hidden = size_field(root, "dense_hidden");
  for (const Json& kind : root.array("feed_forward")) {
    require(kind.is_string(), "{}: feed_forward must be a list of strings", where);
    s.feed_forward.push_back(from_name(kFeedForwards, kind.get<std::string>(), where + ": feed_forward"));
  }
  s.bos_token = static_cast<int>(root.integer("bos_token", -1, kMaxSize, -1));
  if (root.has("eos_tokens")) {
    for (const Json& id : root.array("eos_tokens")) {
      require(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() <= kMaxSize,
              "{}: eos_tokens must be a list of token ids", where);
      s.eos_tokens.push_back(id.get<int>());
    }
  }
  check(s, where);
  return s;
}

}  // namespace moiety::spec
