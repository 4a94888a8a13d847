#include "format/features.h"

#include <cmath>

namespace moiety::format {
namespace {

using spec::AttentionSpec;
using spec::FeedForward;
using spec::ModelSpec;
using spec::RopeScaling;
using spec::RopeScalingKind;

struct FeatureName {
  Feature feature;
  const char* name;
};

constexpr FeatureName kNames[] = {
    {Feature::Experts, "experts"},
    {Feature::DenseLayers, "dense layers"},
    {Feature::DenseAfterSparse, "dense layers after sparse ones"},
    {Feature::SigmoidScores, "sigmoid scores"},
    {Feature::SelectionBias, "a selection bias"},
    {Feature::CosineGate, "a cosine gate"},
    {Feature::HashGate, "a hash gate"},
    {Feature::RandomGate, "a random gate"},
    {Feature::RecurrentGate, "a recurrent gate"},
    {Feature::TreeGate, "a tree gate"},
    {Feature::AheadGate, "a gate that chooses a layer ahead"},
    {Feature::DecoupledGate, "a router decoupled from the layers"},
    {Feature::ScaledWeights, "scaled mixing weights"},
    {Feature::NotRenormalised, "mixing weights that are not renormalised"},
    {Feature::ExpertGroups, "groups of experts"},
    {Feature::BestGroupScore, "groups scored by their best expert"},
    {Feature::SparseMixer, "SparseMixer routing"},
    {Feature::LogitScores, "logits as scores"},
    {Feature::ChangedLogits, "an activation, a temperature or a residual of the router's logits"},
    {Feature::OtherSelection, "a selection other than the top k"},
    {Feature::ZeroCostExperts, "experts that cost nothing"},
    {Feature::RouterBias, "a router bias"},
    {Feature::ExpertBias, "biases in experts"},
    {Feature::ExpertsBias, "a bias after experts"},
    {Feature::ClampedSwiGlu, "a clamped activation"},
    {Feature::SharedExperts, "shared experts"},
    {Feature::GatedShared, "a gated shared expert"},
    {Feature::UnevenShared, "a shared width that is no multiple of the experts'"},
    {Feature::MixedShared, "shared experts mixed with the others by a softmax"},
    {Feature::UnevenExperts, "layers of different numbers of experts"},
    {Feature::ExpertChain, "chains of experts"},
    {Feature::NarrowExperts, "experts of a width of their own"},
    {Feature::GruExperts, "GRU experts"},
    {Feature::LayerMomentum, "momentum from layer to layer"},
    {Feature::AttentionExperts, "attention experts"},
    {Feature::OwnAttentionExperts, "attention experts of other numbers than the other experts'"},
    {Feature::AttentionExpertsOfGroups, "attention experts with several heads for a key-value head"},
    {Feature::StickBreaking, "stick-breaking attention"},
    {Feature::QkvBias, "query, key and value biases"},
    {Feature::OutputBias, "a bias after attention"},
    {Feature::NormPerHead, "a query norm per head"},
    {Feature::NormWhole, "a query norm over all heads"},
    {Feature::LatentAttention, "latent attention"},
    {Feature::LatentQueries, "queries through a small vector"},
    {Feature::Sinks, "attention sinks"},
    {Feature::Window, "a sliding window in every layer"},
    {Feature::AlternatingWindow, "a sliding window in every second layer"},
    {Feature::IrregularWindow, "a sliding window in some layers"},
    {Feature::Clip, "clipped queries"},
    {Feature::OddHeadDim, "a head dimension other than width / heads"},
    {Feature::GroupedQueries, "fewer key-value heads than heads"},
    {Feature::PartialRope, "rotating a part of a head"},
    {Feature::LinearRope, "linear rope scaling"},
    {Feature::Llama3Rope, "llama3 rope scaling"},
    {Feature::YarnRope, "yarn rope scaling"},
    {Feature::YarnUntruncated, "yarn without truncation"},
    {Feature::YarnAmplitude, "yarn with an amplitude of its own"},
    {Feature::FactorsRope, "rope scaling by factors"},
    {Feature::FactorsAmplitude, "rope factors with two amplitudes"},
    {Feature::ScoreScale, "attention scores with a scale of their own"},
    {Feature::GraniteScales, "scaled embeddings, residuals or logits"},
    {Feature::LayerNorm, "layer norms"},
    {Feature::HeadBias, "a bias on the logits"},
    {Feature::TiedEmbeddings, "tied embeddings"},
};

void add_layers(const ModelSpec& s, Features& f) {
  f.add(Feature::Experts, s.moe_layers() > 0);
  for (int layer = 0; layer < s.num_layers; ++layer) {
    f.add(Feature::UnevenExperts, s.experts(layer) > 0 && s.experts(layer) != s.moe.router.num_experts);
  }
  f.add(Feature::DenseLayers, s.moe_layers() < s.num_layers);
  for (int layer = 1; layer < s.num_layers; ++layer) {
    f.add(Feature::DenseAfterSparse,
          s.feed_forward[layer] == FeedForward::Dense && s.feed_forward[layer - 1] == FeedForward::Moe);
  }
}

void add_moe(const spec::MoeSpec& moe, Features& f) {
  const spec::RouterRule& r = moe.router;
  const bool sparse_mixer = r.weigh == spec::Weigh::SparseMixer;
  f.add(Feature::SparseMixer, sparse_mixer);
  f.add(Feature::SigmoidScores, r.score == spec::Score::Sigmoid);
  f.add(Feature::SelectionBias, r.has_selection_bias);
  f.add(Feature::CosineGate, r.gate == spec::Gate::Cosine);
  f.add(Feature::HashGate, r.gate == spec::Gate::Hash);
  f.add(Feature::RandomGate, r.gate == spec::Gate::Random);
  f.add(Feature::RecurrentGate, r.gate == spec::Gate::Recurrent);
  f.add(Feature::TreeGate, r.gate == spec::Gate::Tree);
  f.add(Feature::AheadGate, r.gate == spec::Gate::Ahead);
  f.add(Feature::DecoupledGate, r.gate == spec::Gate::Decoupled);
  f.add(Feature::ScaledWeights, r.scale != 1);
  f.add(Feature::NotRenormalised, !r.renormalise && !sparse_mixer);
  f.add(Feature::LogitScores, r.score == spec::Score::Logits && !sparse_mixer);
  f.add(Feature::ChangedLogits,
        r.logit_activation != spec::LogitActivation::None || r.temperature != 1 || r.gating_residual);
  f.add(Feature::OtherSelection, r.select != spec::Select::TopK);
  f.add(Feature::ZeroCostExperts, r.zero_cost_experts() > 0);
  f.add(Feature::ExpertGroups, r.num_groups > 1);
  f.add(Feature::BestGroupScore, r.num_groups > 1 && r.group_score == spec::GroupScore::Best);
  f.add(Feature::RouterBias, moe.router_bias);
  f.add(Feature::ExpertBias, moe.expert_bias);
  f.add(Feature::ExpertsBias, moe.output_bias);
  f.add(Feature::ClampedSwiGlu, moe.activation == spec::Activation::ClampedSwiGlu);
  f.add(Feature::SharedExperts, moe.shared_hidden > 0);
  f.add(Feature::GatedShared, moe.shared_hidden > 0 && moe.shared_gate);
  f.add(Feature::UnevenShared, moe.shared_hidden % moe.expert_hidden != 0);
  f.add(Feature::MixedShared, moe.shared_mix);
  f.add(Feature::ExpertChain, moe.iterations > 1);
  f.add(Feature::NarrowExperts, moe.expert_width > 0);
  f.add(Feature::GruExperts, moe.gru_experts > 0);
  f.add(Feature::LayerMomentum, moe.momentum.kind != spec::Momentum::None);
}

void add_windows(const ModelSpec& s, Features& f) {
  bool all = true, any = false, alternating = true;
  for (int layer = 0; layer < s.num_layers; ++layer) {
    const int window = s.attention.window(layer);
    const bool windowed = window > 0 && window < s.max_positions;  // a window over all positions is none
    all = all && windowed;
    any = any || windowed;
    alternating = alternating && windowed == (layer % 2 == 0);
  }
  f.add(Feature::Window, all);
  f.add(Feature::AlternatingWindow, any && !all && alternating);
  f.add(Feature::IrregularWindow, any && !all && !alternating);
}

void add_rope(const AttentionSpec& a, Features& f) {
  const RopeScaling& s = a.rope.scaling;
  f.add(Feature::PartialRope, !a.latent && a.rope_dim() != a.head_dim);
  f.add(Feature::LinearRope, s.kind == RopeScalingKind::Linear);
  f.add(Feature::Llama3Rope, s.kind == RopeScalingKind::Llama3);
  if (s.kind == RopeScalingKind::Yarn) {
    f.add(Feature::YarnRope);
    f.add(Feature::YarnUntruncated, !s.truncate);
    f.add(Feature::YarnAmplitude, std::abs(s.amplitude - spec::yarn_amplitude(s.factor)) > 1e-5f);
  }
  if (s.kind == RopeScalingKind::Factors) {
    f.add(Feature::FactorsRope);
    f.add(Feature::FactorsAmplitude, s.amplitude != s.long_amplitude);
  }
}

void add_attention(const ModelSpec& s, Features& f) {
  const AttentionSpec& a = s.attention;
  f.add(Feature::LatentAttention, a.latent.has_value());
  f.add(Feature::LatentQueries, a.latent && a.latent->query_rank > 0);
  f.add(Feature::AttentionExperts, a.experts.has_value());
  f.add(Feature::OwnAttentionExperts, a.experts && (a.experts->num_experts != s.moe.router.num_experts ||
                                                    a.experts->experts_per_token != s.moe.router.experts_per_token));
  f.add(Feature::AttentionExpertsOfGroups, a.experts && a.expert_heads() != a.num_kv_heads);
  f.add(Feature::StickBreaking, a.weigh == spec::AttentionWeigh::StickBreaking);
  f.add(Feature::QkvBias, a.qkv_bias);
  f.add(Feature::OutputBias, a.output_bias);
  f.add(Feature::NormPerHead, a.qk_norm == spec::QkNorm::PerHead);
  f.add(Feature::NormWhole, a.qk_norm == spec::QkNorm::Whole);
  f.add(Feature::Sinks, a.sinks);
  f.add(Feature::Clip, a.clip_qkv != 0);
  f.add(Feature::OddHeadDim, !a.latent && a.head_dim * a.num_heads != s.width);
  f.add(Feature::GroupedQueries, !a.latent && a.num_kv_heads != a.num_heads);
  f.add(Feature::ScoreScale, a.score_scale != 0);
  add_windows(s, f);
  add_rope(a, f);
}

}  // namespace

std::string Features::first_name() const {
  for (const auto& [feature, name] : kNames) {
    if (has(feature)) return name;
  }
  return {};
}

Features features_of(const ModelSpec& s) {
  Features f;
  add_layers(s, f);
  if (s.moe_layers() > 0) add_moe(s.moe, f);
  add_attention(s, f);
  f.add(Feature::GraniteScales, s.embedding_scale != 1 || s.residual_scale != 1 || s.logit_scale != 1);
  f.add(Feature::LayerNorm, s.norm == spec::Norm::Layer);
  f.add(Feature::HeadBias, s.head_bias);
  f.add(Feature::TiedEmbeddings, s.tied_embeddings);
  return f;
}

}  // namespace moiety::format
