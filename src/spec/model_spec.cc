#include "spec/model_spec.h"

#include <algorithm>
#include <array>
#include <utility>

namespace moiety::spec {
namespace {

// Absurd sizes are refused before anything is allocated for them.
constexpr int64_t kMaxSize = 1 << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 65536;

template <class E, size_t N>
using Names = std::array<std::pair<E, const char*>, N>;

constexpr Names<QkNorm, 3> kQkNorms{
    {{QkNorm::None, "none"}, {QkNorm::PerHead, "per_head"}, {QkNorm::Whole, "whole"}}};
constexpr Names<Score, 2> kScores{{{Score::Softmax, "softmax"}, {Score::Sigmoid, "sigmoid"}}};
constexpr Names<RopePairs, 2> kRopePairs{{{RopePairs::Halves, "halves"}, {RopePairs::Neighbours, "neighbours"}}};
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

int size_field(const JsonObject& object, const char* key, int64_t high = kMaxSize) {
  return static_cast<int>(object.integer(key, 0, high, 0));
}

}  // namespace

int ModelSpec::moe_layers() const {
  return static_cast<int>(std::count(feed_forward.begin(), feed_forward.end(), FeedForward::Moe));
}

namespace {

int64_t count_parameters(const ModelSpec& s, int64_t experts_counted, bool count_embedding) {
  const AttentionSpec& a = s.attention;
  const int64_t d = s.width, q = int64_t{a.num_heads} * a.head_dim, kv = int64_t{a.num_kv_heads} * a.head_dim;
  int64_t attention = d * (2 * q + 2 * kv);
  if (a.qkv_bias) attention += q + 2 * kv;
  if (a.qk_norm == QkNorm::PerHead) attention += 2 * a.head_dim;
  if (a.qk_norm == QkNorm::Whole) attention += q + kv;

  int64_t moe = s.moe.router.num_experts * d + experts_counted * 3 * d * s.moe.expert_hidden;
  if (s.moe.router.has_selection_bias) moe += s.moe.router.num_experts;
  moe += 3 * d * s.moe.shared_hidden + (s.moe.shared_gate ? d : 0);

  const int64_t moe_layers = s.moe_layers(), dense_layers = s.num_layers - moe_layers;
  const int64_t head = int64_t{s.vocab_size} * d;
  const int64_t embedding = s.tied_embeddings ? 0 : head;
  return s.num_layers * (attention + 2 * d) + moe_layers * moe + dense_layers * 3 * d * s.dense_hidden + d + head +
         (count_embedding ? embedding : 0);
}

}  // namespace

int64_t ModelSpec::parameters() const { return count_parameters(*this, moe.router.num_experts, true); }

int64_t ModelSpec::active_parameters() const {
  return count_parameters(*this, moe.router.experts_per_token, false);
}

void check(const ModelSpec& s, const std::string& where) {
  const auto in_range = [&](const char* field, int64_t value, int64_t low, int64_t high) {
    require(value >= low && value <= high, "{}: {} is {}, expected {} to {}", where, field, value, low, high);
  };
  in_range("the number of layers", s.num_layers, 1, kMaxLayers);
  in_range("the model width", s.width, 1, kMaxSize);
  in_range("the vocabulary size", s.vocab_size, 1, kMaxSize);
  in_range("the number of attention heads", s.attention.num_heads, 1, kMaxSize);
  in_range("the number of key-value heads", s.attention.num_kv_heads, 1, s.attention.num_heads);
  require(s.attention.num_heads % s.attention.num_kv_heads == 0,
          "{}: {} attention heads can't be shared evenly by {} key-value heads", where, s.attention.num_heads,
          s.attention.num_kv_heads);
  in_range("the head dimension", s.attention.head_dim, 2, 65536);
  require(s.attention.head_dim % 2 == 0, "{}: the head dimension is {}, expected an even number", where,
          s.attention.head_dim);
  require(s.attention.rope_theta > 0, "{}: rope theta is {}, expected more than 0", where, s.attention.rope_theta);
  require(s.norm_eps >= 0 && s.norm_eps < 1, "{}: the norm's epsilon is {}, expected 0 to 1", where, s.norm_eps);
  in_range("the sliding window", s.attention.sliding_window, 0, INT32_MAX);
  require(static_cast<int>(s.feed_forward.size()) == s.num_layers,
          "{}: {} feed-forward kinds for {} layers", where, s.feed_forward.size(), s.num_layers);
  if (s.moe_layers() > 0) {
    in_range("the number of experts", s.moe.router.num_experts, 1, kMaxExperts);
    in_range("experts per token", s.moe.router.experts_per_token, 1, s.moe.router.num_experts);
    in_range("the expert hidden size", s.moe.expert_hidden, 1, kMaxSize);
    in_range("the shared hidden size", s.moe.shared_hidden, 0, kMaxSize);
  }
  if (s.moe_layers() < s.num_layers) in_range("the dense hidden size", s.dense_hidden, 1, kMaxSize);
  for (const int eos : s.eos_tokens) in_range("an end-of-text token", eos, 0, s.vocab_size - 1);
  in_range("the beginning-of-text token", s.bos_token, -1, s.vocab_size - 1);
}

Json to_json(const ModelSpec& s) {
  Json layers = Json::array();
  for (const FeedForward kind : s.feed_forward) layers.push_back(to_name(kFeedForwards, kind));
  const RouterRule& r = s.moe.router;
  const AttentionSpec& a = s.attention;
  return {{"model_type", "moiety"},
          {"num_layers", s.num_layers},
          {"width", s.width},
          {"vocab_size", s.vocab_size},
          {"max_positions", s.max_positions},
          {"norm_eps", s.norm_eps},
          {"tied_embeddings", s.tied_embeddings},
          {"attention",
           {{"num_heads", a.num_heads},
            {"num_kv_heads", a.num_kv_heads},
            {"head_dim", a.head_dim},
            {"qk_norm", to_name(kQkNorms, a.qk_norm)},
            {"qkv_bias", a.qkv_bias},
            {"rope_theta", a.rope_theta},
            {"rope_pairs", to_name(kRopePairs, a.rope_pairs)},
            {"sliding_window", a.sliding_window},
            {"clip_qkv", a.clip_qkv}}},
          {"moe",
           {{"num_experts", r.num_experts},
            {"experts_per_token", r.experts_per_token},
            {"score", to_name(kScores, r.score)},
            {"selection_bias", r.has_selection_bias},
            {"renormalise", r.renormalise},
            {"scale", r.scale},
            {"expert_hidden", s.moe.expert_hidden},
            {"shared_hidden", s.moe.shared_hidden},
            {"shared_gate", s.moe.shared_gate}}},
          {"dense_hidden", s.dense_hidden},
          {"feed_forward", layers},
          {"bos_token", s.bos_token},
          {"eos_tokens", s.eos_tokens}};
}

ModelSpec model_spec_from_json(const Json& json, const std::string& where) {
  const JsonObject root(json, where);
  ModelSpec s{.family = "moiety"};
  s.num_layers = size_field(root, "num_layers", kMaxLayers);
  s.width = size_field(root, "width");
  s.vocab_size = size_field(root, "vocab_size");
  s.max_positions = size_field(root, "max_positions", INT32_MAX);
  s.norm_eps = static_cast<float>(root.number("norm_eps"));
  s.tied_embeddings = root.boolean("tied_embeddings", false);

  const JsonObject attention = root.object("attention");
  s.attention.num_heads = size_field(attention, "num_heads");
  s.attention.num_kv_heads = size_field(attention, "num_kv_heads");
  s.attention.head_dim = size_field(attention, "head_dim");
  s.attention.qk_norm = from_name(kQkNorms, attention.text("qk_norm", "none"), where + ": attention: qk_norm");
  s.attention.qkv_bias = attention.boolean("qkv_bias", false);
  s.attention.rope_theta = static_cast<float>(attention.number("rope_theta"));
  s.attention.rope_pairs =
      from_name(kRopePairs, attention.text("rope_pairs", "halves"), where + ": attention: rope_pairs");
  s.attention.sliding_window = size_field(attention, "sliding_window", INT32_MAX);
  s.attention.clip_qkv = static_cast<float>(attention.number("clip_qkv", 0));

  const JsonObject moe = root.object("moe");
  RouterRule& r = s.moe.router;
  r.num_experts = size_field(moe, "num_experts", kMaxExperts);
  r.experts_per_token = size_field(moe, "experts_per_token", kMaxExperts);
  r.score = from_name(kScores, moe.text("score", "softmax"), where + ": moe: score");
  r.has_selection_bias = moe.boolean("selection_bias", false);
  r.renormalise = moe.boolean("renormalise", true);
  r.scale = static_cast<float>(moe.number("scale", 1));
  s.moe.expert_hidden = size_field(moe, "expert_hidden");
  s.moe.shared_hidden = size_field(moe, "shared_hidden");
  s.moe.shared_gate = moe.boolean("shared_gate", false);

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
