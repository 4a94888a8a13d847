#include "cli/describe_model.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace moiety::cli {
namespace {

using spec::AttentionSpec;
using spec::ModelSpec;
using spec::MoeSpec;
using spec::RopeScalingKind;

// Phrases with semicolons between.
class Phrases {
 public:
  void add(std::string phrase) { phrases_.push_back(std::move(phrase)); }
  void add_if(bool so, std::string phrase) {
    if (so) add(std::move(phrase));
  }
  std::string text() const { return fmt::format("{}", fmt::join(phrases_, "; ")); }

 private:
  std::vector<std::string> phrases_;
};

std::string describe_attention(const ModelSpec& s) {
  const AttentionSpec& a = s.attention;
  Phrases p;
  if (a.latent) {
    const spec::LatentSpec& l = *a.latent;
    p.add(fmt::format("latent, {} heads of {} + {} rotated, values of {}", a.num_heads, l.plain_dim, l.rope_dim, l.value_dim));
    p.add(fmt::format("{} + {} numbers cached a token and layer", l.kv_rank, l.rope_dim));
    p.add_if(l.query_rank > 0, fmt::format("queries through {}", l.query_rank));
  } else {
    p.add(fmt::format("{} heads of {}, {} of keys and values", a.num_heads, a.head_dim, a.num_kv_heads));
  }
  if (a.experts) p.add(fmt::format("{} of {} attention experts a token", a.experts->experts_per_token, a.experts->num_experts));
  p.add_if(!a.is_rotated(), "stick-breaking");
  p.add_if(a.qk_norm == spec::QkNorm::PerHead, "query and key norms per head");
  p.add_if(a.qk_norm == spec::QkNorm::Whole, "query and key norms over all heads");
  const auto windows = std::ranges::count(a.windowed, true);
  p.add_if(a.sliding_window > 0, fmt::format("a window of {} tokens in {} layers", a.sliding_window,
                                             a.windowed.empty() ? s.num_layers : windows));
  p.add_if(a.sinks, "sinks");
  p.add_if(a.qkv_bias || a.output_bias, "biases");
  p.add_if(a.clip_qkv > 0, fmt::format("clipped to {}", a.clip_qkv));
  p.add_if(a.score_scale > 0, fmt::format("scores times {:.4g}", a.score_scale));
  return p.text();
}

std::string describe_positions(const ModelSpec& s) {
  const spec::RopeSpec& rope = s.attention.rope;
  Phrases p;
  p.add(fmt::format("up to {}", s.max_positions));
  p.add_if(!s.attention.is_rotated(), "none beyond the order of tokens");
  if (s.attention.is_rotated()) p.add(fmt::format("rotary, theta {:.7g}", rope.theta));
  p.add_if(!s.attention.latent && s.attention.rope_dim() != s.attention.head_dim,
           fmt::format("{} numbers of a head", s.attention.rope_dim()));
  const auto stretched = [&](const char* how) {
    return fmt::format("stretched {} times from {} ({})", rope.scaling.factor, rope.scaling.original_positions, how);
  };
  p.add_if(rope.scaling.kind == RopeScalingKind::Linear, fmt::format("stretched {} times (linear)", rope.scaling.factor));
  p.add_if(rope.scaling.kind == RopeScalingKind::Llama3, stretched("llama3"));
  p.add_if(rope.scaling.kind == RopeScalingKind::Yarn, stretched(rope.scaling.truncate ? "yarn" : "yarn, not truncated"));
  p.add_if(rope.scaling.kind == RopeScalingKind::Factors,
           fmt::format("frequencies divided by factors, others beyond {} positions", rope.scaling.original_positions));
  return p.text();
}

const char* describe_gate(spec::Gate gate) {
  using spec::Gate;
  switch (gate) {
    case Gate::Linear:
      return "linear";
    case Gate::Cosine:
      return "cosines";
    case Gate::Hash:
      return "experts by a hash of the token";
    case Gate::Random:
      return "experts by chance";
    case Gate::Recurrent:
      return "a GRU from layer to layer";
    case Gate::Tree:
      return "trees";
    case Gate::Ahead:
      return "chosen a layer ahead";
    case Gate::Decoupled:
      return "all layers chosen ahead";
  }
  return "";
}

std::string describe_router(const MoeSpec& moe) {
  const spec::RouterRule& r = moe.router;
  Phrases p;
  p.add_if(r.gate != spec::Gate::Linear, describe_gate(r.gate));
  p.add(r.weigh == spec::Weigh::SparseMixer     ? "SparseMixer"
        : r.score == spec::Score::Softmax ? "softmax"
        : r.score == spec::Score::Sigmoid ? "sigmoid"
                                          : "logits as they are");
  p.add_if(r.logit_activation != spec::LogitActivation::None, "an activation of the logits");
  p.add_if(r.temperature != 1, fmt::format("temperature {:.4g}", r.temperature));
  p.add_if(r.gating_residual, "a residual of the layer before");
  p.add_if(r.select == spec::Select::Grouped, "as many of each group");
  p.add_if(r.select == spec::Select::TopP, fmt::format("as many as reach {:.4g}", r.top_p));
  p.add_if(r.select == spec::Select::Threshold, fmt::format("all from {:.4g} on", r.threshold));
  p.add_if(r.select == spec::Select::ExpertChoice, "experts' cut-offs");
  p.add_if(r.select == spec::Select::Tsallis, fmt::format("by Tsallis' entropy of index {:.4g}", r.tsallis_q));
  p.add_if(moe.router_bias, "a bias on the logits");
  p.add_if(r.has_selection_bias, "a bias on the choice");
  p.add_if(r.num_groups > 1, fmt::format("{} of {} groups, by {}", r.groups_per_token, r.num_groups,
                                         r.group_score == spec::GroupScore::Best ? "the best expert" : "the two best"));
  p.add_if(r.renormalise, "weights sum to 1");
  p.add_if(r.scale != 1, fmt::format("times {:.4g}", r.scale));
  return p.text();
}

std::string describe_experts(const ModelSpec& s) {
  const MoeSpec& moe = s.moe;
  Phrases p;
  std::vector<int> by_layer;
  for (const int experts : moe.experts_L) {
    if (experts > 0) by_layer.push_back(experts);
  }
  p.add(fmt::format("{} of {} a token, {} wide", moe.router.experts_per_token,
                    by_layer.empty() ? fmt::format("{}", moe.router.num_experts) : fmt::format("{}", fmt::join(by_layer, ", ")),
                    moe.expert_hidden));
  p.add_if(moe.router.zero_cost_experts() > 0, fmt::format("{} that cost nothing", moe.router.zero_cost_experts()));
  p.add_if(moe.expert_width > 0, fmt::format("taking and giving {}", moe.expert_width));
  p.add_if(moe.ternary_experts, "ternary");
  p.add_if(moe.gru_experts > 0, fmt::format("{} of them GRUs of {}", moe.gru_experts, moe.gru_hidden));
  p.add_if(moe.iterations > 1, fmt::format("a chain of {}", moe.iterations));
  p.add_if(moe.momentum.kind != spec::Momentum::None,
           fmt::format("{} from layer to layer", moe.momentum.kind == spec::Momentum::Adam ? "Adam's momentum" : "momentum"));
  p.add_if(moe.shared_hidden > 0, fmt::format("shared {} wide{}", moe.shared_hidden,
                                              moe.shared_gate ? ", gated" : moe.shared_mix ? ", mixed by a softmax" : ""));
  p.add_if(moe.expert_bias, "biases");
  p.add_if(moe.output_bias, "a bias on what they give together");
  p.add_if(moe.activation == spec::Activation::ClampedSwiGlu, "clamped activation");
  return p.text();
}

}  // namespace

std::vector<std::pair<std::string, std::string>> describe(const ModelSpec& s) {
  std::vector<std::pair<std::string, std::string>> lines;
  const int sparse = s.moe_layers(), dense = s.num_layers - sparse;
  lines.push_back({"layers", fmt::format("{}, {} wide{}", s.num_layers, s.width,
                                         sparse == 0 ? fmt::format("; all dense, {} wide", s.dense_hidden)
                                         : dense > 0 ? fmt::format("; {} of them dense, {} wide", dense, s.dense_hidden)
                                                     : "")});
  if (sparse > 0) {
    lines.push_back({"experts", describe_experts(s)});
    lines.push_back({"router", describe_router(s.moe)});
  }
  lines.push_back({"attention", describe_attention(s)});
  lines.push_back({"positions", describe_positions(s)});
  lines.push_back({"vocabulary", fmt::format("{}{}{}", s.vocab_size, s.tied_embeddings ? "; embedding and head are one" : "",
                                             s.head_bias ? "; a bias on the logits" : "")});
  lines.push_back({"norms", fmt::format("{}, epsilon {:.3g}", s.norm == spec::Norm::Rms ? "RMS" : "layer norms", s.norm_eps)});
  if (s.embedding_scale != 1 || s.residual_scale != 1 || s.logit_scale != 1) {
    lines.push_back({"scales", fmt::format("embedding {:.4g}, residual {:.4g}, logits {:.4g}", s.embedding_scale,
                                           s.residual_scale, s.logit_scale)});
  }
  lines.push_back({"end of text", s.eos_tokens.empty() ? "no token" : fmt::format("{}", fmt::join(s.eos_tokens, ", "))});
  return lines;
}

}  // namespace moiety::cli
