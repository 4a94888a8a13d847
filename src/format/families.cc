#include "format/families.h"

#include "format/families_gguf.h"
#include "format/families_hf.h"

namespace moiety::format {
namespace {

using enum Feature;
using spec::Role;

constexpr auto kHalves = spec::RopePairs::Halves, kNeighbours = spec::RopePairs::Neighbours;

constexpr Role kQkvBiases[] = {Role::QueryBias, Role::KeyBias, Role::ValueBias};
constexpr Role kAttentionBiases[] = {Role::QueryBias, Role::KeyBias, Role::ValueBias, Role::AttentionOutputBias};
constexpr Role kAfterExperts[] = {Role::AttentionOutputBias, Role::ExpertsBias};
constexpr Role kSelectionBias[] = {Role::SelectionBias};

// Every implementation of either kind has these.
constexpr Features kRopes{LinearRope, Llama3Rope, YarnRope, YarnUntruncated, YarnAmplitude, FactorsRope};
constexpr Features kHfAll = kRopes | Features{TiedEmbeddings, GroupedQueries};
constexpr Features kGgufAll{TiedEmbeddings, GroupedQueries, LinearRope, YarnRope, YarnUntruncated};
constexpr Features kBothBiases{QkvBias, OutputBias};
// llama.cpp's llama takes frequencies as a tensor.
constexpr Features kGgufLlama = kGgufAll | Features{Llama3Rope, FactorsRope, OddHeadDim};
constexpr Features kDeepSeekMay{DenseLayers, ExpertGroups, ScaledWeights, SharedExperts, LatentQueries,
                                ScoreScale};

const Family kFamilies[] = {
    {"llama", {DenseLayers},
     {"llama", "LlamaForCausalLM", kMlpExpertsNames, kHalves, read_hf_llama, write_hf_llama,
      kHfAll | kBothBiases | Features{OddHeadDim}},
     {"llama", kGgufNames, kNeighbours, read_gguf_dense, write_gguf_dense, kGgufLlama | kBothBiases}, {}},
    {"mistral", {DenseLayers},
     {"mistral", "MistralForCausalLM", kMlpExpertsNames, kHalves, read_hf_mistral, write_hf_mistral,
      kHfAll | Features{OddHeadDim, Window}},
     {nullptr}, {}},
    {"qwen3", {DenseLayers, NormPerHead},
     {"qwen3", "Qwen3ForCausalLM", kMlpExpertsNames, kHalves, read_hf_qwen3, write_hf_qwen3,
      kHfAll | kBothBiases | Features{OddHeadDim, Window, AlternatingWindow, IrregularWindow}},
     {"qwen3", kGgufNames, kHalves, read_gguf_qwen3, write_gguf_dense, kGgufAll | Features{OddHeadDim}}, {}},
    {"mixtral", {Experts},
     {"mixtral", "MixtralForCausalLM", kMixtralNames, kHalves, read_hf_mixtral, write_hf_mixtral,
      kHfAll | Features{Window, OddHeadDim}},
     {"llama", kGgufNames, kNeighbours, read_gguf_mixtral, write_gguf_mixtral, kGgufLlama}, {}},
    {"olmoe", {Experts, NormWhole},
     {"olmoe", "OlmoeForCausalLM", kMlpExpertsNames, kHalves, read_hf_olmoe, write_hf_olmoe,
      kHfAll | kBothBiases | Features{NotRenormalised, Clip}},
     {"olmoe", kGgufNames, kHalves, read_gguf_olmoe, write_gguf_mixtral,
      kGgufAll.without({GroupedQueries}) | Features{NotRenormalised}}, {}},
    {"qwen3_moe", {Experts, NormPerHead},
     {"qwen3_moe", "Qwen3MoeForCausalLM", kMlpExpertsNames, kHalves, read_hf_qwen3_moe, write_hf_qwen_moe,
      kHfAll | kBothBiases | Features{OddHeadDim, NotRenormalised, DenseLayers, DenseAfterSparse, Window}},
     {"qwen3moe", kGgufNames, kHalves, read_gguf_qwen3_moe, write_gguf_qwen_moe, kGgufAll | Features{OddHeadDim}}, {}},
    {"qwen2_moe", {Experts, SharedExperts, GatedShared},
     {"qwen2_moe", "Qwen2MoeForCausalLM", kMlpExpertsNames, kHalves, read_hf_qwen2_moe, write_hf_qwen2_moe,
      kHfAll | Features{QkvBias, UnevenShared, NotRenormalised, DenseLayers, DenseAfterSparse, Window, AlternatingWindow,
                        IrregularWindow}},
     {"qwen2moe", kGgufNames, kHalves, read_gguf_qwen2_moe, write_gguf_qwen2_moe,
      kGgufAll | Features{QkvBias, UnevenShared, NotRenormalised}},
     kQkvBiases},
    {"glm4_moe", {Experts, SigmoidScores, SharedExperts},
     {"glm4_moe", "Glm4MoeForCausalLM", kDeepSeekNames, kHalves, read_hf_glm4, write_hf_glm4,
      kHfAll | Features{SelectionBias, ScaledWeights, NotRenormalised, ExpertGroups, DenseLayers, QkvBias, NormPerHead,
                        OddHeadDim, PartialRope}},
     {"glm4moe", kGgufPostNormNames, kHalves, read_gguf_glm4, write_gguf_glm4,
      kGgufAll | Features{SelectionBias, ScaledWeights, NotRenormalised, DenseLayers, QkvBias, NormPerHead, OddHeadDim,
                          PartialRope}},
     kSelectionBias},
    {"dots1", {Experts, SigmoidScores, NormPerHead},
     {"dots1", "Dots1ForCausalLM", kDeepSeekNames, kHalves, read_hf_dots1, write_hf_dots1,
      kHfAll | kBothBiases | Features{SelectionBias, ScaledWeights, NotRenormalised, ExpertGroups, DenseLayers, SharedExperts, OddHeadDim}},
     {"dots1", kGgufNames, kHalves, read_gguf_glm4, write_gguf_glm4,
      kGgufAll.without({GroupedQueries}) | Features{SelectionBias, ScaledWeights, NotRenormalised, DenseLayers, SharedExperts}},
     kSelectionBias},
    {"minimax_m2", {Experts, SigmoidScores, NormWhole},
     {"minimax_m2", "MiniMaxM2ForCausalLM", kMiniMaxNames, kHalves, read_hf_minimax, write_hf_minimax,
      kHfAll | Features{SelectionBias, OddHeadDim, PartialRope}},
     {"minimax-m2", kGgufNames, kHalves, read_gguf_minimax, write_gguf_minimax,
      kGgufAll | Features{SelectionBias, OddHeadDim, PartialRope}},
     kSelectionBias},
    {"deepseek_v3", {Experts, LatentAttention, SigmoidScores},
     {"deepseek_v3", "DeepseekV3ForCausalLM", kDeepSeekNames, kNeighbours, read_hf_deepseek_v3, write_hf_deepseek_v3,
      kHfAll | kDeepSeekMay | Features{SelectionBias, NotRenormalised}},
     {"deepseek2", kGgufNames, kNeighbours, read_gguf_deepseek, write_gguf_deepseek,
      kGgufAll | kDeepSeekMay | Features{SelectionBias, NotRenormalised, YarnAmplitude}},
     kSelectionBias},
    {"deepseek_v2", {Experts, LatentAttention},
     {"deepseek_v2", "DeepseekV2ForCausalLM", kDeepSeekNames, kNeighbours, read_hf_deepseek_v2, write_hf_deepseek_v2,
      kHfAll | kDeepSeekMay | Features{NotRenormalised, BestGroupScore}},
     {"deepseek2", kGgufNames, kNeighbours, read_gguf_deepseek, write_gguf_deepseek,
      (kGgufAll | kDeepSeekMay | Features{NotRenormalised, YarnAmplitude}).without({ExpertGroups})},
     {}},
    {"granitemoe", {Experts, ScoreScale},
     {"granitemoe", "GraniteMoeForCausalLM", kGraniteNames, kHalves, read_hf_granite, write_hf_granite,
      kHfAll | kBothBiases | Features{GraniteScales}},
     {"granitemoe", kGgufNames, kNeighbours, read_gguf_granite, write_gguf_granite, kGgufAll | Features{GraniteScales}},
     {}},
    {"jetmoe", {Experts, AttentionExperts},
     {"jetmoe", "JetMoeForCausalLM", kJetMoeNames, kHalves, read_hf_jetmoe, write_hf_jetmoe,
      kHfAll | Features{OutputBias, ExpertsBias, OddHeadDim}},
     {nullptr}, kAfterExperts},
    {"gpt_oss", {Experts, Sinks, ClampedSwiGlu, RouterBias, ExpertBias},
     {"gpt_oss", "GptOssForCausalLM", kGptOssNames, kHalves, read_hf_gpt_oss, write_hf_gpt_oss,
      kHfAll | kBothBiases | Features{OddHeadDim, Window, AlternatingWindow, IrregularWindow}},
     {"gpt-oss", kGgufPostNormNames, kHalves, read_gguf_gpt_oss, write_gguf_gpt_oss,
      kGgufAll | kBothBiases | Features{OddHeadDim, AlternatingWindow}},
     kAttentionBiases},
    {"phimoe", {Experts, SparseMixer, LayerNorm},
     {"phimoe", "PhiMoEForCausalLM", kMixtralNames, kHalves, read_hf_phimoe, write_hf_phimoe,
      kHfAll | kBothBiases | Features{HeadBias, Window, FactorsAmplitude}},
     {nullptr}, {}},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

const Family* family_of_hf(std::string_view model_type) {
  if (model_type == "kimi_k2") model_type = "deepseek_v3";  // the same model under a name of its own
  for (const Family& family : kFamilies) {
    if (family.hf.model_type == model_type) return &family;
  }
  return nullptr;
}

const Family* family_of_gguf(std::string_view architecture, bool experts, bool sigmoid_scores) {
  for (const Family& family : kFamilies) {
    if (family.gguf.architecture == nullptr || family.gguf.architecture != architecture) continue;
    if (family.must.has(Experts) != experts) continue;
    if (family.must.has(SigmoidScores) && !sigmoid_scores && architecture == "deepseek2") continue;
    return &family;
  }
  return nullptr;
}

const Family* family_named(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

std::string cannot_express(const Family& family, FileKind kind, Features features) {
  if (kind == FileKind::Gguf && family.gguf.architecture == nullptr) return "any model: llama.cpp has none like it";
  const Features lacks = family.must.without(features);
  if (!lacks.empty()) return "a model without " + lacks.first_name();
  const Features may = kind == FileKind::Gguf ? family.gguf.may : family.hf.may;
  return features.without(family.must | may).first_name();
}

const Family& closest_family(const spec::ModelSpec& spec, FileKind kind) {
  const Features features = features_of(spec);
  const Family* own = family_named(spec.family);
  if (own != nullptr && cannot_express(*own, kind, features).empty()) return *own;
  std::string reasons;
  for (const Family& family : kFamilies) {
    const std::string reason = cannot_express(family, kind, features);
    if (reason.empty()) return family;
    reasons += fmt::format("; {} cannot express {}", family.name, reason);
  }
  fail(ErrorKind::Input, "no standard architecture computes what this model does{}", reasons);
}

}  // namespace moiety::format
