// A small model with random weights, written as one of our checkpoints.
#pragma once

#include <cmath>

#include "base/random.h"
#include "format/safetensors.h"
#include "format/weight_names.h"
#include "spec/expert_kind.h"
#include "spec/weight.h"

namespace moiety::test {

// Two small layers; the tests change what they are about.
inline spec::ModelSpec small_spec() {
  spec::ModelSpec s{.family = "moiety", .num_layers = 2, .width = 32, .vocab_size = 50, .max_positions = 64};
  s.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
  s.moe = {.router = {.num_experts = 4, .experts_per_token = 2}, .expert_hidden = 32};
  s.feed_forward.assign(2, spec::FeedForward::Moe);
  s.bos_token = 1;
  s.eos_tokens = {2};
  return s;
}

// The same with a gate, whose settings are none of the defaults.
inline spec::ModelSpec small_spec(spec::Gate gate) {
  spec::ModelSpec s = small_spec();
  spec::RouterRule& rule = s.moe.router;
  rule.gate = gate;
  rule.gate_width = 12;
  rule.gate_temperature = 0.3f;
  rule.gate_learns_temperature = true;
  rule.gate_step = 3;
  rule.gate_seed = 7;
  return s;
}

// The same with GRU experts beside the others.
inline spec::ModelSpec small_spec_with_grus() {
  spec::ModelSpec s = small_spec();
  s.num_layers = 3;
  s.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
  s.dense_hidden = 40;
  s.moe.router.num_experts = 5;
  s.moe.gru_experts = 3;
  s.moe.gru_hidden = 11;
  return s;
}

inline constexpr spec::Gate kGates[] = {spec::Gate::Linear,    spec::Gate::Cosine, spec::Gate::Hash,  spec::Gate::Random,
                                        spec::Gate::Recurrent, spec::Gate::Tree,   spec::Gate::Ahead, spec::Gate::Decoupled};

inline void write_random_checkpoint(const spec::ModelSpec& spec, const fs::path& folder, uint64_t seed = 1) {
  fs::create_directories(folder);
  write_file(folder / "config.json", spec::to_json(spec).dump());
  Random random(seed);
  std::vector<std::vector<float>> values;
  std::vector<format::TensorView> tensors;
  for (const spec::Weight& w : spec::weights_of(spec, false)) {
    auto shape = spec::shape_of(spec, w.role, w.layer);
    if (spec::is_expert(w.role)) shape.insert(shape.begin(), spec::experts_with(spec, w.layer, w.role));
    format::TensorView tensor{format::our_name(w), spec::ElementType::F32, shape, {}};
    const bool is_matrix = shape.size() > 1;
    const double spread = is_matrix ? 1.5 / std::sqrt(static_cast<double>(shape.back())) : 0.2;
    std::vector<float> x(static_cast<size_t>(tensor.elements()));
    const bool is_norm = !is_matrix && tensor.name.ends_with("norm.weight");
    for (float& v : x) v = static_cast<float>(spread * random.normal() + (is_norm ? 1 : 0));
    values.push_back(std::move(x));
    tensor.bytes = std::as_bytes(std::span(values.back()));
    tensors.push_back(std::move(tensor));
  }
  format::write_safetensors(folder / "model.safetensors", tensors);
}

}  // namespace moiety::test
