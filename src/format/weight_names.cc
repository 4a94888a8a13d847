#include "format/weight_names.h"

#include <string_view>

namespace moiety::format {
namespace {

using spec::Role;

constexpr WeightName kOurs[] = {
    {Role::Embedding, "embedding.weight"},
    {Role::FinalNorm, "final_norm.weight"},
    {Role::Head, "head.weight"},
    {Role::AttentionNorm, "layers.{L}.attention.norm.weight"},
    {Role::Query, "layers.{L}.attention.query.weight"},
    {Role::Key, "layers.{L}.attention.key.weight"},
    {Role::Value, "layers.{L}.attention.value.weight"},
    {Role::AttentionOutput, "layers.{L}.attention.output.weight"},
    {Role::QueryBias, "layers.{L}.attention.query.bias"},
    {Role::KeyBias, "layers.{L}.attention.key.bias"},
    {Role::ValueBias, "layers.{L}.attention.value.bias"},
    {Role::QueryNorm, "layers.{L}.attention.query_norm.weight"},
    {Role::KeyNorm, "layers.{L}.attention.key_norm.weight"},
    {Role::FeedForwardNorm, "layers.{L}.feed_forward.norm.weight"},
    {Role::DenseGate, "layers.{L}.dense.gate.weight"},
    {Role::DenseUp, "layers.{L}.dense.up.weight"},
    {Role::DenseDown, "layers.{L}.dense.down.weight"},
    {Role::Router, "layers.{L}.router.weight"},
    {Role::SelectionBias, "layers.{L}.router.bias"},
    {Role::SharedGate, "layers.{L}.shared.gate.weight"},
    {Role::SharedUp, "layers.{L}.shared.up.weight"},
    {Role::SharedDown, "layers.{L}.shared.down.weight"},
    {Role::SharedScale, "layers.{L}.shared.scale.weight"},
    {Role::ExpertGate, "layers.{L}.experts.gate.weight"},
    {Role::ExpertUp, "layers.{L}.experts.up.weight"},
    {Role::ExpertDown, "layers.{L}.experts.down.weight"},
};

constexpr WeightName kGguf[] = {
    {Role::Embedding, "token_embd.weight"},
    {Role::FinalNorm, "output_norm.weight"},
    {Role::Head, "output.weight"},
    {Role::AttentionNorm, "blk.{L}.attn_norm.weight"},
    {Role::Query, "blk.{L}.attn_q.weight"},
    {Role::Key, "blk.{L}.attn_k.weight"},
    {Role::Value, "blk.{L}.attn_v.weight"},
    {Role::AttentionOutput, "blk.{L}.attn_output.weight"},
    {Role::QueryBias, "blk.{L}.attn_q.bias"},
    {Role::KeyBias, "blk.{L}.attn_k.bias"},
    {Role::ValueBias, "blk.{L}.attn_v.bias"},
    {Role::QueryNorm, "blk.{L}.attn_q_norm.weight"},
    {Role::KeyNorm, "blk.{L}.attn_k_norm.weight"},
    {Role::FeedForwardNorm, "blk.{L}.ffn_norm.weight"},
    {Role::DenseGate, "blk.{L}.ffn_gate.weight"},
    {Role::DenseUp, "blk.{L}.ffn_up.weight"},
    {Role::DenseDown, "blk.{L}.ffn_down.weight"},
    {Role::Router, "blk.{L}.ffn_gate_inp.weight"},
    {Role::SelectionBias, "blk.{L}.exp_probs_b.bias"},
    {Role::SharedGate, "blk.{L}.ffn_gate_shexp.weight"},
    {Role::SharedUp, "blk.{L}.ffn_up_shexp.weight"},
    {Role::SharedDown, "blk.{L}.ffn_down_shexp.weight"},
    {Role::SharedScale, "blk.{L}.ffn_gate_inp_shexp.weight"},
    {Role::ExpertGate, "blk.{L}.ffn_gate_exps.weight"},
    {Role::ExpertUp, "blk.{L}.ffn_up_exps.weight"},
    {Role::ExpertDown, "blk.{L}.ffn_down_exps.weight"},
};
constexpr WeightName kGgufGlm4[] = {{Role::FeedForwardNorm, "blk.{L}.post_attention_norm.weight"}};

constexpr WeightName kHuggingFace[] = {
    {Role::Embedding, "model.embed_tokens.weight"},
    {Role::FinalNorm, "model.norm.weight"},
    {Role::Head, "lm_head.weight"},
    {Role::AttentionNorm, "model.layers.{L}.input_layernorm.weight"},
    {Role::Query, "model.layers.{L}.self_attn.q_proj.weight"},
    {Role::Key, "model.layers.{L}.self_attn.k_proj.weight"},
    {Role::Value, "model.layers.{L}.self_attn.v_proj.weight"},
    {Role::AttentionOutput, "model.layers.{L}.self_attn.o_proj.weight"},
    {Role::QueryBias, "model.layers.{L}.self_attn.q_proj.bias"},
    {Role::KeyBias, "model.layers.{L}.self_attn.k_proj.bias"},
    {Role::ValueBias, "model.layers.{L}.self_attn.v_proj.bias"},
    {Role::QueryNorm, "model.layers.{L}.self_attn.q_norm.weight"},
    {Role::KeyNorm, "model.layers.{L}.self_attn.k_norm.weight"},
    {Role::FeedForwardNorm, "model.layers.{L}.post_attention_layernorm.weight"},
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
constexpr WeightName kGlm4[] = {
    {Role::SelectionBias, "model.layers.{L}.mlp.gate.e_score_correction_bias"},
    {Role::SharedGate, "model.layers.{L}.mlp.shared_experts.gate_proj.weight"},
    {Role::SharedUp, "model.layers.{L}.mlp.shared_experts.up_proj.weight"},
    {Role::SharedDown, "model.layers.{L}.mlp.shared_experts.down_proj.weight"},
};

void replace(std::string& text, std::string_view what, int number) {
  const size_t at = text.find(what);
  if (at != text.npos) text.replace(at, what.size(), std::to_string(number));
}

}  // namespace

const WeightNames kOurNames{kOurs, {}};
const WeightNames kGgufNames{kGguf, {}};
const WeightNames kGgufGlm4Names{kGguf, kGgufGlm4};
const WeightNames kMixtralNames{kHuggingFace, kMixtral};
const WeightNames kMlpExpertsNames{kHuggingFace, {}};
const WeightNames kGlm4Names{kHuggingFace, kGlm4};

const char* WeightNames::pattern(Role role) const {
  for (const auto& rows : {special, common}) {
    for (const WeightName& row : rows) {
      if (row.role == role) return row.pattern;
    }
  }
  return nullptr;
}

bool WeightNames::stacks_experts() const {
  return std::string_view(pattern(Role::ExpertGate)).find("{E}") == std::string_view::npos;
}

std::string WeightNames::name(const spec::Weight& weight) const {
  const char* found = pattern(weight.role);
  if (found == nullptr) return {};
  std::string name = found;
  replace(name, "{L}", weight.layer);
  replace(name, "{E}", weight.expert);
  return name;
}

}  // namespace moiety::format
