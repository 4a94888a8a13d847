#include "format/weight_names.h"

#include <string_view>

namespace moiety::format {
namespace {

using spec::Role;

constexpr WeightName kOurs[] = {
    {Role::Embedding, "embedding.weight"},
    {Role::FinalNorm, "final_norm.weight"},
    {Role::FinalNormBias, "final_norm.bias"},
    {Role::Head, "head.weight"},
    {Role::HeadBias, "head.bias"},
    {Role::GruInput, "router.gru.input.weight"},
    {Role::GruState, "router.gru.state.weight"},
    {Role::GruInputBias, "router.gru.input.bias"},
    {Role::GruStateBias, "router.gru.state.bias"},
    {Role::AttentionNorm, "layers.{L}.attention.norm.weight"},
    {Role::AttentionNormBias, "layers.{L}.attention.norm.bias"},
    {Role::Query, "layers.{L}.attention.query.weight"},
    {Role::Key, "layers.{L}.attention.key.weight"},
    {Role::Value, "layers.{L}.attention.value.weight"},
    {Role::AttentionOutput, "layers.{L}.attention.output.weight"},
    {Role::AttentionOutputBias, "layers.{L}.attention.output.bias"},
    {Role::QueryBias, "layers.{L}.attention.query.bias"},
    {Role::KeyBias, "layers.{L}.attention.key.bias"},
    {Role::ValueBias, "layers.{L}.attention.value.bias"},
    {Role::QueryNorm, "layers.{L}.attention.query_norm.weight"},
    {Role::KeyNorm, "layers.{L}.attention.key_norm.weight"},
    {Role::Sinks, "layers.{L}.attention.sinks"},
    {Role::AttentionRouter, "layers.{L}.attention.router.weight"},
    {Role::AttentionExpertQuery, "layers.{L}.attention.experts.query.weight"},
    {Role::AttentionExpertOutput, "layers.{L}.attention.experts.output.weight"},
    {Role::QueryDown, "layers.{L}.attention.query_down.weight"},
    {Role::QueryDownNorm, "layers.{L}.attention.query_down_norm.weight"},
    {Role::QueryUp, "layers.{L}.attention.query_up.weight"},
    {Role::KvDown, "layers.{L}.attention.kv_down.weight"},
    {Role::KvDownNorm, "layers.{L}.attention.kv_down_norm.weight"},
    {Role::KeyUp, "layers.{L}.attention.key_up.weight"},
    {Role::ValueUp, "layers.{L}.attention.value_up.weight"},
    {Role::FeedForwardNorm, "layers.{L}.feed_forward.norm.weight"},
    {Role::FeedForwardNormBias, "layers.{L}.feed_forward.norm.bias"},
    {Role::DenseGate, "layers.{L}.dense.gate.weight"},
    {Role::DenseUp, "layers.{L}.dense.up.weight"},
    {Role::DenseDown, "layers.{L}.dense.down.weight"},
    {Role::Router, "layers.{L}.router.weight"},
    {Role::RouterBias, "layers.{L}.router.logit_bias"},
    {Role::SelectionBias, "layers.{L}.router.bias"},
    {Role::GatingResidual, "layers.{L}.router.residual.weight"},
    {Role::ConstantMix, "layers.{L}.constants.mix.weight"},
    {Role::ConstantVector, "layers.{L}.constants.vector.weight"},
    {Role::GateDown, "layers.{L}.router.down.weight"},
    {Role::GateTemperature, "layers.{L}.router.temperature"},
    {Role::GateLeaf, "layers.{L}.router.leaf.weight"},
    {Role::ExpertsDescend, "layers.{L}.experts.descend.weight"},
    {Role::ExpertsAscend, "layers.{L}.experts.ascend.weight"},
    {Role::ExpertsBias, "layers.{L}.experts.output_bias"},
    {Role::SharedGate, "layers.{L}.shared.gate.weight"},
    {Role::SharedUp, "layers.{L}.shared.up.weight"},
    {Role::SharedDown, "layers.{L}.shared.down.weight"},
    {Role::SharedScale, "layers.{L}.shared.scale.weight"},
    {Role::ExpertGate, "layers.{L}.experts.gate.weight"},
    {Role::ExpertUp, "layers.{L}.experts.up.weight"},
    {Role::ExpertDown, "layers.{L}.experts.down.weight"},
    {Role::ExpertGateBias, "layers.{L}.experts.gate.bias"},
    {Role::ExpertUpBias, "layers.{L}.experts.up.bias"},
    {Role::ExpertDownBias, "layers.{L}.experts.down.bias"},
    {Role::ExpertGruInput, "layers.{L}.gru_experts.input.weight"},
    {Role::ExpertGruState, "layers.{L}.gru_experts.state.weight"},
    {Role::ExpertGruOutput, "layers.{L}.gru_experts.output.weight"},
    {Role::ExpertGruInputBias, "layers.{L}.gru_experts.input.bias"},
    {Role::ExpertGruStateBias, "layers.{L}.gru_experts.state.bias"},
};

// Training keeps what it rounds to -1, 0 or 1 when it computes.
constexpr WeightName kOurTernary[] = {
    {Role::ExpertGate, "layers.{L}.experts.gate.weight", Layout::Ternary},
    {Role::ExpertUp, "layers.{L}.experts.up.weight", Layout::Ternary},
    {Role::ExpertDown, "layers.{L}.experts.down.weight", Layout::Ternary},
};

constexpr WeightName kGguf[] = {
    {Role::Embedding, "token_embd.weight"},
    {Role::FinalNorm, "output_norm.weight"},
    {Role::FinalNormBias, "output_norm.bias"},
    {Role::Head, "output.weight"},
    {Role::HeadBias, "output.bias"},
    {Role::AttentionNorm, "blk.{L}.attn_norm.weight"},
    {Role::AttentionNormBias, "blk.{L}.attn_norm.bias"},
    {Role::Query, "blk.{L}.attn_q.weight"},
    {Role::Key, "blk.{L}.attn_k.weight"},
    {Role::Value, "blk.{L}.attn_v.weight"},
    {Role::AttentionOutput, "blk.{L}.attn_output.weight"},
    {Role::AttentionOutputBias, "blk.{L}.attn_output.bias"},
    {Role::QueryBias, "blk.{L}.attn_q.bias"},
    {Role::KeyBias, "blk.{L}.attn_k.bias"},
    {Role::ValueBias, "blk.{L}.attn_v.bias"},
    {Role::QueryNorm, "blk.{L}.attn_q_norm.weight"},
    {Role::KeyNorm, "blk.{L}.attn_k_norm.weight"},
    {Role::Sinks, "blk.{L}.attn_sinks.weight"},
    {Role::QueryDown, "blk.{L}.attn_q_a.weight"},
    {Role::QueryDownNorm, "blk.{L}.attn_q_a_norm.weight"},
    {Role::QueryUp, "blk.{L}.attn_q_b.weight"},
    {Role::KvDown, "blk.{L}.attn_kv_a_mqa.weight"},
    {Role::KvDownNorm, "blk.{L}.attn_kv_a_norm.weight"},
    {Role::KeyUp, "blk.{L}.attn_k_b.weight"},
    {Role::ValueUp, "blk.{L}.attn_v_b.weight"},
    {Role::KeyUp, "blk.{L}.attn_kv_b.weight", Layout::KeyOfKv},
    {Role::ValueUp, "blk.{L}.attn_kv_b.weight", Layout::ValueOfKv},
    {Role::FeedForwardNorm, "blk.{L}.ffn_norm.weight"},
    {Role::FeedForwardNormBias, "blk.{L}.ffn_norm.bias"},
    {Role::DenseGate, "blk.{L}.ffn_gate.weight"},
    {Role::DenseUp, "blk.{L}.ffn_up.weight"},
    {Role::DenseDown, "blk.{L}.ffn_down.weight"},
    {Role::Router, "blk.{L}.ffn_gate_inp.weight"},
    {Role::RouterBias, "blk.{L}.ffn_gate_inp.bias"},
    {Role::SelectionBias, "blk.{L}.exp_probs_b.bias"},
    {Role::SharedGate, "blk.{L}.ffn_gate_shexp.weight"},
    {Role::SharedUp, "blk.{L}.ffn_up_shexp.weight"},
    {Role::SharedDown, "blk.{L}.ffn_down_shexp.weight"},
    {Role::SharedScale, "blk.{L}.ffn_gate_inp_shexp.weight"},
    {Role::ExpertGate, "blk.{L}.ffn_gate_exps.weight"},
    {Role::ExpertUp, "blk.{L}.ffn_up_exps.weight"},
    {Role::ExpertDown, "blk.{L}.ffn_down_exps.weight"},
    // Files from before spring 2024 have every expert by itself.
    {Role::ExpertGate, "blk.{L}.ffn_gate.{E}.weight"},
    {Role::ExpertUp, "blk.{L}.ffn_up.{E}.weight"},
    {Role::ExpertDown, "blk.{L}.ffn_down.{E}.weight"},
    {Role::ExpertGateBias, "blk.{L}.ffn_gate_exps.bias"},
    {Role::ExpertUpBias, "blk.{L}.ffn_up_exps.bias"},
    {Role::ExpertDownBias, "blk.{L}.ffn_down_exps.bias"},
};
// GLM-4.5 and gpt-oss
constexpr WeightName kGgufPostNorm[] = {{Role::FeedForwardNorm, "blk.{L}.post_attention_norm.weight"}};

constexpr WeightName kHuggingFace[] = {
    {Role::Embedding, "model.embed_tokens.weight"},
    {Role::FinalNorm, "model.norm.weight"},
    {Role::FinalNormBias, "model.norm.bias"},
    {Role::Head, "lm_head.weight"},
    {Role::HeadBias, "lm_head.bias"},
    {Role::AttentionNorm, "model.layers.{L}.input_layernorm.weight"},
    {Role::AttentionNormBias, "model.layers.{L}.input_layernorm.bias"},
    {Role::Query, "model.layers.{L}.self_attn.q_proj.weight"},
    {Role::Key, "model.layers.{L}.self_attn.k_proj.weight"},
    {Role::Value, "model.layers.{L}.self_attn.v_proj.weight"},
    {Role::AttentionOutput, "model.layers.{L}.self_attn.o_proj.weight"},
    {Role::AttentionOutputBias, "model.layers.{L}.self_attn.o_proj.bias"},
    {Role::QueryBias, "model.layers.{L}.self_attn.q_proj.bias"},
    {Role::KeyBias, "model.layers.{L}.self_attn.k_proj.bias"},
    {Role::ValueBias, "model.layers.{L}.self_attn.v_proj.bias"},
    {Role::QueryNorm, "model.layers.{L}.self_attn.q_norm.weight"},
    {Role::KeyNorm, "model.layers.{L}.self_attn.k_norm.weight"},
    {Role::FeedForwardNorm, "model.layers.{L}.post_attention_layernorm.weight"},
    {Role::FeedForwardNormBias, "model.layers.{L}.post_attention_layernorm.bias"},
    {Role::DenseGate, "model.layers.{L}.mlp.gate_proj.weight"},
    {Role::DenseUp, "model.layers.{L}.mlp.up_proj.weight"},
    {Role::DenseDown, "model.layers.{L}.mlp.down_proj.weight"},
    {Role::Router, "model.layers.{L}.mlp.gate.weight"},
    {Role::SharedGate, "model.layers.{L}.mlp.shared_expert.gate_proj.weight"},
    {Role::SharedUp, "model.layers.{L}.mlp.shared_expert.up_proj.weight"},
    {Role::SharedDown, "model.layers.{L}.mlp.shared_expert.down_proj.weight"},
    {Role::SharedScale, "model.layers.{L}.mlp.shared_expert_gate.weight"},
    {Role::ExpertGate, "model.layers.{L}.mlp.experts.{E}.gate_proj.weight"},
    {Role::ExpertUp, "model.layers.{L}.mlp.experts.{E}.up_proj.weight"},
    {Role::ExpertDown, "model.layers.{L}.mlp.experts.{E}.down_proj.weight"},
};
constexpr WeightName kMixtral[] = {
    {Role::Router, "model.layers.{L}.block_sparse_moe.gate.weight"},
    {Role::ExpertGate, "model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight"},
    {Role::ExpertUp, "model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight"},
    {Role::ExpertDown, "model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight"},
};
constexpr WeightName kDeepSeek[] = {
    {Role::SelectionBias, "model.layers.{L}.mlp.gate.e_score_correction_bias"},
    {Role::SharedGate, "model.layers.{L}.mlp.shared_experts.gate_proj.weight"},
    {Role::SharedUp, "model.layers.{L}.mlp.shared_experts.up_proj.weight"},
    {Role::SharedDown, "model.layers.{L}.mlp.shared_experts.down_proj.weight"},
    {Role::QueryDown, "model.layers.{L}.self_attn.q_a_proj.weight"},
    {Role::QueryDownNorm, "model.layers.{L}.self_attn.q_a_layernorm.weight"},
    {Role::QueryUp, "model.layers.{L}.self_attn.q_b_proj.weight"},
    {Role::KvDown, "model.layers.{L}.self_attn.kv_a_proj_with_mqa.weight"},
    {Role::KvDownNorm, "model.layers.{L}.self_attn.kv_a_layernorm.weight"},
    {Role::KeyUp, "model.layers.{L}.self_attn.kv_b_proj.weight", Layout::KeyOfKv},
    {Role::ValueUp, "model.layers.{L}.self_attn.kv_b_proj.weight", Layout::ValueOfKv},
};
constexpr WeightName kMiniMax[] = {
    {Role::Router, "model.layers.{L}.block_sparse_moe.gate.weight"},
    {Role::SelectionBias, "model.layers.{L}.block_sparse_moe.e_score_correction_bias"},
    {Role::ExpertGate, "model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight"},
    {Role::ExpertUp, "model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight"},
    {Role::ExpertDown, "model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight"},
};
constexpr WeightName kGranite[] = {
    {Role::Router, "model.layers.{L}.block_sparse_moe.router.layer.weight"},
    {Role::ExpertGate, "model.layers.{L}.block_sparse_moe.input_linear.weight", Layout::FirstHalf},
    {Role::ExpertUp, "model.layers.{L}.block_sparse_moe.input_linear.weight", Layout::SecondHalf},
    {Role::ExpertDown, "model.layers.{L}.block_sparse_moe.output_linear.weight"},
};
constexpr WeightName kJetMoe[] = {
    {Role::AttentionRouter, "model.layers.{L}.self_attention.experts.router.layer.weight"},
    {Role::AttentionExpertQuery, "model.layers.{L}.self_attention.experts.input_linear.weight"},
    {Role::AttentionExpertOutput, "model.layers.{L}.self_attention.experts.output_linear.weight"},
    {Role::AttentionOutputBias, "model.layers.{L}.self_attention.experts.bias"},
    {Role::Key, "model.layers.{L}.self_attention.kv_proj.weight", Layout::FirstHalf},
    {Role::Value, "model.layers.{L}.self_attention.kv_proj.weight", Layout::SecondHalf},
    {Role::Router, "model.layers.{L}.mlp.router.layer.weight"},
    {Role::ExpertGate, "model.layers.{L}.mlp.input_linear.weight", Layout::FirstHalf},
    {Role::ExpertUp, "model.layers.{L}.mlp.input_linear.weight", Layout::SecondHalf},
    {Role::ExpertDown, "model.layers.{L}.mlp.output_linear.weight"},
    {Role::ExpertsBias, "model.layers.{L}.mlp.bias"},
};
// Published in MXFP4; a row of gate, a row of up, and so on. Unpacked copies have them transposed.
constexpr WeightName kGptOss[] = {
    {Role::Sinks, "model.layers.{L}.self_attn.sinks"},
    {Role::Router, "model.layers.{L}.mlp.router.weight"},
    {Role::RouterBias, "model.layers.{L}.mlp.router.bias"},
    {Role::ExpertGate, "model.layers.{L}.mlp.experts.gate_up_proj_blocks", Layout::EvenPlanes},
    {Role::ExpertUp, "model.layers.{L}.mlp.experts.gate_up_proj_blocks", Layout::OddPlanes},
    {Role::ExpertDown, "model.layers.{L}.mlp.experts.down_proj_blocks", Layout::Planes},
    {Role::ExpertGate, "model.layers.{L}.mlp.experts.gate_up_proj", Layout::EvenColumns},
    {Role::ExpertUp, "model.layers.{L}.mlp.experts.gate_up_proj", Layout::OddColumns},
    {Role::ExpertDown, "model.layers.{L}.mlp.experts.down_proj", Layout::Transposed},
    {Role::ExpertGateBias, "model.layers.{L}.mlp.experts.gate_up_proj_bias", Layout::Even},
    {Role::ExpertUpBias, "model.layers.{L}.mlp.experts.gate_up_proj_bias", Layout::Odd},
    {Role::ExpertDownBias, "model.layers.{L}.mlp.experts.down_proj_bias"},
};

void replace(std::string& text, std::string_view what, int number) {
  const size_t at = text.find(what);
  if (at != text.npos) text.replace(at, what.size(), std::to_string(number));
}

}  // namespace

const WeightNames kOurNames{kOurs, {}};
const WeightNames kOurTernaryNames{kOurs, kOurTernary};
const WeightNames kGgufNames{kGguf, {}};
const WeightNames kGgufPostNormNames{kGguf, kGgufPostNorm};
const WeightNames kMixtralNames{kHuggingFace, kMixtral};
const WeightNames kMlpExpertsNames{kHuggingFace, {}};
const WeightNames kDeepSeekNames{kHuggingFace, kDeepSeek};
const WeightNames kMiniMaxNames{kHuggingFace, kMiniMax};
const WeightNames kGraniteNames{kHuggingFace, kGranite};
const WeightNames kJetMoeNames{kHuggingFace, kJetMoe};
const WeightNames kGptOssNames{kHuggingFace, kGptOss};

std::vector<const WeightName*> WeightNames::rows(Role role) const {
  std::vector<const WeightName*> found;
  for (const auto& table : {special, common}) {
    for (const WeightName& row : table) {
      if (row.role == role) found.push_back(&row);
    }
    if (!found.empty()) break;
  }
  return found;
}

bool WeightNames::stacks_experts() const { return is_stack(*rows(Role::ExpertGate).front()); }

std::string name_of(const WeightName& row, const spec::Weight& weight) {
  std::string name = row.pattern;
  replace(name, "{L}", weight.layer);
  replace(name, "{E}", weight.expert);
  return name;
}

std::string our_name(const spec::Weight& weight) { return name_of(*kOurNames.rows(weight.role).front(), weight); }

bool is_stack(const WeightName& row) {
  return spec::is_expert(row.role) && std::string_view(row.pattern).find("{E}") == std::string_view::npos;
}

}  // namespace moiety::format
