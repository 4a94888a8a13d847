// A grid of configurations: which runs `moiety train --sweep` makes. Nothing is run here (sweep_runner.h).
#pragma once

#include <string>
#include <vector>

namespace moiety::train {

// Keys that change together, and for each place of the axis a value a key: "optimizer.lr=0.003,0.006" has one key and two places,
// "model.experts:model.expert_hidden=8:256,64:32" two keys and two places.
struct Axis {
  std::vector<std::string> keys;
  std::vector<std::vector<std::string>> places;
};

// Values are parted by commas, and those of several keys by colons, outside of quotes and brackets. Throws Error(Usage).
Axis parse_axis(const std::string& text);

// A run of the grid.
struct Trial {
  std::string name;                    // also its folder's: "lr=0.003,experts=8"
  std::vector<std::string> overrides;  // "section.key=value"
};

// Every combination, the last axis fastest. Throws Error(Usage) if a key stands twice or two trials have the same name.
std::vector<Trial> grid(const std::vector<Axis>& axes);

}  // namespace moiety::train
