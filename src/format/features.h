// What sets one model apart from another, as a set: families say which of these their standard implementations have.
#pragma once

#include <cstdint>
#include <string>

#include "spec/model_spec.h"

namespace moiety::format {

enum class Feature : uint8_t {
  Experts,
  DenseLayers,       // beside sparse ones, or only
  DenseAfterSparse,  // dense layers elsewhere than in front
  SigmoidScores,
  SelectionBias,
  CosineGate,
  HashGate,
  RandomGate,
  RecurrentGate,
  TreeGate,
  AheadGate,
  DecoupledGate,
  ScaledWeights,
  NotRenormalised,
  ExpertGroups,
  BestGroupScore,  // groups scored by their best expert
  SparseMixer,
  LogitScores,     // logits as they are
  ChangedLogits,   // by an activation, a temperature or a gating residual
  OtherSelection,  // than the top k, of groups or of all
  ZeroCostExperts,
  RouterBias,
  ExpertBias,
  ExpertsBias,  // on what they give together
  ClampedSwiGlu,
  SharedExperts,
  GatedShared,  // a gate scales what the shared experts give
  UnevenShared,  // a width that is no multiple of the experts'
  MixedShared,   // a softmax mixes them with the others
  UnevenExperts,  // layers of different numbers of experts
  ExpertChain,
  NarrowExperts,  // experts of a width of their own
  GruExperts,
  LayerMomentum,
  AttentionExperts,
  OwnAttentionExperts,      // of other numbers than the experts that come after attention
  AttentionExpertsOfGroups,  // with several heads for a key-value head
  StickBreaking,
  QkvBias,
  OutputBias,
  NormPerHead,
  NormWhole,
  LatentAttention,
  LatentQueries,
  Sinks,
  Window,         // a sliding window in every layer
  AlternatingWindow,  // in every second layer, from the first
  IrregularWindow,
  Clip,
  OddHeadDim,  // other than width / heads
  GroupedQueries,
  PartialRope,
  LinearRope,
  Llama3Rope,
  YarnRope,
  YarnUntruncated,
  YarnAmplitude,  // other than YaRN's own
  FactorsRope,
  FactorsAmplitude,  // other in a long context than in a short one
  ScoreScale,     // other than 1 / sqrt(head_dim)
  GraniteScales,  // of embedding, residual stream, logits
  LayerNorm,
  HeadBias,
  TiedEmbeddings,
};

static_assert(static_cast<int>(Feature::TiedEmbeddings) < 64, "a bit each, of the last one too");

class Features {
 public:
  constexpr Features() = default;
  constexpr Features(std::initializer_list<Feature> features) {
    for (const Feature feature : features) bits_ |= bit(feature);
  }
  constexpr bool has(Feature feature) const { return (bits_ & bit(feature)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr Features operator|(Features other) const { return Features(bits_ | other.bits_); }
  constexpr Features without(Features other) const { return Features(bits_ & ~other.bits_); }
  void add(Feature feature, bool if_so = true) { bits_ |= if_so ? bit(feature) : 0; }

  // What the first of them is to a person: "a sliding window".
  std::string first_name() const;

 private:
  constexpr explicit Features(uint64_t bits) : bits_(bits) {}
  static constexpr uint64_t bit(Feature feature) { return uint64_t{1} << static_cast<int>(feature); }
  uint64_t bits_ = 0;
};

Features features_of(const spec::ModelSpec& spec);

}  // namespace moiety::format
