#include "cli/sampling_arguments.h"

#include <random>

namespace moiety::cli {

void SamplingArguments::add_to(CLI::App& app, const std::string& group) {
  const std::string before = app.option_defaults()->get_group();
  app.option_defaults()->group(group);
  app.add_flag("--greedy", greedy, "always the likeliest token (same as --temperature 0)");
  app.add_option("--temperature", chosen.temperature, "0: greedy")->capture_default_str();
  app.add_option("--top-k", chosen.top_k, "only the k likeliest tokens (0: all)")->capture_default_str();
  app.add_option("--top-p", chosen.top_p, "only the likeliest tokens that have this probability together")
      ->capture_default_str();
  app.add_option("--min-p", chosen.min_p, "only tokens at least this share as likely as the likeliest")
      ->capture_default_str();
  app.add_option("--repetition-penalty", chosen.repetition_penalty, "more than 1 discourages tokens seen")
      ->capture_default_str();
  app.add_option("--presence-penalty", chosen.presence_penalty, "off the logit of tokens generated")
      ->capture_default_str();
  app.add_option("--frequency-penalty", chosen.frequency_penalty, "… once for each time")->capture_default_str();
  app.add_option("--seed", seed, "the same seed gives the same text (default: a new one each time)");
  app.option_defaults()->group(before);
}

engine::SamplingOptions SamplingArguments::options() const {
  engine::SamplingOptions options = chosen;
  if (greedy) options.temperature = 0;
  options.seed = seed.value_or(std::random_device()());
  engine::check(options);
  return options;
}

}  // namespace moiety::cli
