// Runs a grid of configurations one after the other, each as a process of its own in a folder of its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace moiety::train {

struct SweepArguments {
  std::string config;                  // the file
  std::vector<std::string> overrides;  // of all runs, as --set has them
  std::vector<std::string> axes;       // as --sweep has them
  bool json = false;
};

// Every combination is checked before the first run starts. Runs that are finished are left as they are, one that was interrupted
// goes on; a run that fails is named and the others still made. Tokenizer and token shards of an earlier run of the sweep are used
// again where they fit. `signal` is asked all the time for the signal that ends the sweep, 0 if there is none: the run that goes on
// then writes a checkpoint. Prints the comparison. Returns the exit status.
int run_sweep(const SweepArguments& arguments, const std::function<int()>& signal);

}  // namespace moiety::train
