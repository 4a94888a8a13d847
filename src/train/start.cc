#include "train/start.h"

#include <algorithm>

#include "base/error.h"
#include "format/model_path.h"
#include "format/tokenizer_json.h"
#include "text/tokenizer.h"
#include "upcycle/made_model.h"

namespace moiety::train {

TrainConfig with_tokenizer_of_start(const TrainConfig& config) {
  if (config.run.from.empty()) return config;
  TrainConfig with = config;
  const fs::path model = format::resolve_model_path(config.run.from);
  if (with.tokenizer.file.empty()) {
    const fs::path path = model / "tokenizer.json";
    require(fs::exists(path), "{}: no tokenizer.json beside the model; moiety convert writes a folder that has one",
            model.string());
    with.tokenizer.file = path.string();
  }
  const std::string& file = with.tokenizer.file;
  const text::Tokenizer tokenizer(format::read_tokenizer_json(read_file(file), file));
  const std::vector<int> ends = format::ModelFile(model).spec().eos_tokens;
  if (!ends.empty() && ends[0] < tokenizer.vocab_size()) with.tokenizer.end_of_text = tokenizer.token_bytes(ends[0]);
  return with;
}

namespace {

bool layers_pass_state(const spec::MoeSpec& moe) {
  using enum spec::Gate;
  const spec::Gate gate = moe.router.gate;
  return gate == Recurrent || gate == Ahead || gate == Decoupled || moe.router.gating_residual || moe.momentum.kind != spec::Momentum::None;
}

}  // namespace

spec::ModelSpec spec_to_train(const TrainConfig& config, const PreparedData& data) {
  if (config.run.from.empty()) return model_spec(config, data.vocab_size, data.end_of_text);
  const format::ModelFile file(config.run.from);
  spec::ModelSpec spec = upcycle::model_of(file).spec;
  require(data.vocab_size <= spec.vocab_size, "{}: the model has {} tokens, the tokenizer {}", file.path().string(),
          spec.vocab_size, data.vocab_size);
  require(config.train.recompute == "none" || !layers_pass_state(spec.moe),
          "{}: the model's layers hand on more than their output, which train.recompute = \"layers\" can't compute again",
          file.path().string());
  spec.max_positions = std::max(spec.max_positions, static_cast<int>(config.train.sequence));
  spec.moe.router.has_selection_bias |= config.balance.bias_rate > 0 && spec.moe_layers() > 0;
  return spec;
}

void begin(const TrainConfig& config, const spec::ModelSpec& spec, Weights& weights) {
  if (config.run.from.empty()) return weights.initialise(spec, static_cast<uint64_t>(config.run.seed));
  const format::ModelFile file(config.run.from);
  const upcycle::MadeModel model = upcycle::model_of(file);
  for (const Weights::Entry& entry : weights.entries()) {
    const std::span<float> values = weights.values().subspan(entry.begin, entry.size);
    if (entry.size == 0) continue;
    const bool is_new = entry.weight.role == spec::Role::SelectionBias && !file.spec().moe.router.has_selection_bias;
    if (is_new) continue;  // zero
    if (!entry.is_stack()) {
      entry.part().take(std::span<const float>(model.make(entry.weight)), values);
      continue;
    }
    const size_t size = entry.size / static_cast<size_t>(entry.shape[0]);
    auto to = values.begin();
    for (const Stretch& experts : entry.kept) {
      for (size_t expert = experts.begin; expert < experts.end(); ++expert) {
        spec::Weight weight = entry.weight;
        weight.expert = static_cast<int>(expert);
        const std::vector<float> made = model.make(weight);
        assert(made.size() == size);
        to = std::ranges::copy(made, to).out;
      }
    }
  }
}

}  // namespace moiety::train
