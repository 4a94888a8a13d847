#include "train/hyper_parameters.h"

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "train/step_law.h"

namespace moiety::train {
namespace {

double to_two_digits(double value) {
  const double unit = std::pow(10.0, std::floor(std::log10(value)) - 1);
  return std::round(value / unit) * unit;
}

// As many sequences a step as come closest to `tokens`, in equal passes: at least the passes that the configuration asks for.
void choose_passes(double tokens, const TrainConfig::Train& train, Chosen& chosen) {
  const int64_t a_pass = std::max<int64_t>(1, kMostTokensAPass / train.sequence);
  const int64_t sequences = std::max<int64_t>(1, std::llround(tokens / static_cast<double>(train.sequence)));
  chosen.accumulate = std::max(train.accumulate, (sequences + a_pass - 1) / a_pass);
  chosen.batch = std::max<int64_t>(1, std::llround(static_cast<double>(sequences) / static_cast<double>(chosen.accumulate)));
}

}  // namespace

int64_t parameters_without_embeddings(const spec::ModelSpec& spec) {
  return spec.parameters() - int64_t{spec.vocab_size} * spec.width * (spec.tied_embeddings ? 1 : 2);
}

Chosen choose_hyper_parameters(const TrainConfig& config, const spec::ModelSpec& spec, const std::function<double()>& tokens_per_second) {
  const TrainConfig::Train& train = config.train;
  Chosen chosen{config.optimizer.lr, train.batch, train.accumulate};
  const auto tokens_a_step = [&] { return static_cast<double>(chosen.batch * chosen.accumulate * train.sequence); };

  if (train.minutes > 0) {
    chosen.tokens = tokens_per_second() * train.minutes * 60;
    if (train.batch == 0) choose_passes(step_law(1, chosen.tokens).batch_tokens, train, chosen);
  } else {
    if (train.batch == 0) choose_passes(step_law_batch(static_cast<double>(train.steps)), train, chosen);
    chosen.tokens = tokens_a_step() * static_cast<double>(train.steps);
  }
  if (chosen.lr == 0) {
    const auto parameters = static_cast<double>(std::max<int64_t>(1, parameters_without_embeddings(spec)));
    chosen.lr = to_two_digits(step_law(parameters, std::max(1.0, chosen.tokens)).lr);
  }
  return chosen;
}

TrainConfig with_chosen(TrainConfig config, const Chosen& chosen) {
  if (config.optimizer.lr == 0) config.optimizer.lr = chosen.lr;
  if (config.train.batch == 0) {
    config.train.batch = chosen.batch;
    config.train.accumulate = chosen.accumulate;
  }
  return config;
}

std::string describe(const TrainConfig& given, const Chosen& chosen, const spec::ModelSpec& spec) {
  const TrainConfig c = with_chosen(given, chosen);
  const auto by = [](bool open) { return open ? "by the step law" : "as configured"; };
  // A run in minutes that leaves nothing open need not know how many tokens it will see.
  const std::string tokens = chosen.tokens > 0 ? fmt::format("about {} tokens; ", short_number(chosen.tokens)) : "";
  return fmt::format("{} parameters, {} without embeddings, {} active; {}optimizer.lr {} ({}), train.batch {} x {} passes = {} tokens a step ({})",
                     short_number(static_cast<double>(spec.parameters())),
                     short_number(static_cast<double>(parameters_without_embeddings(spec))),
                     short_number(static_cast<double>(spec.active_parameters())), tokens, c.optimizer.lr,
                     by(given.optimizer.lr == 0), c.train.batch, c.train.accumulate,
                     c.train.batch * c.train.accumulate * c.train.sequence, by(given.train.batch == 0));
}

Json to_json(const Chosen& chosen) {
  return {{"lr", chosen.lr}, {"batch", chosen.batch}, {"accumulate", chosen.accumulate}, {"tokens", chosen.tokens}};
}

Chosen chosen_from_json(const Json& json, const std::string& where) {
  const JsonObject object(json, where);
  const Chosen chosen{object.number("lr"), object.integer("batch", 1, 1 << 24), object.integer("accumulate", 1, 1 << 24),
                      object.number("tokens")};
  require(chosen.lr > 0, "{}: lr is {}, expected more than 0", where, chosen.lr);
  return chosen;
}

}  // namespace moiety::train
