// The flags that say how tokens are drawn, for the commands that draw them.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "engine/sampler.h"

namespace moiety::cli {

struct SamplingArguments {
  engine::SamplingOptions chosen{.temperature = 0.8f, .top_p = 0.95f};
  bool greedy = false;
  std::optional<uint64_t> seed;

  void add_to(CLI::App& app, const std::string& group = "OPTIONS");
  // Checked; with a seed of its own if none was given. Throws Error(Usage).
  engine::SamplingOptions options() const;
};

}  // namespace moiety::cli
