// How much memory a command may hold, and what of a model it keeps in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/open_model.h"

namespace moiety::cli {

// "6GiB", "800MB", "2.5G" (the last two of powers of ten but for the i), "1073741824" -> bytes. Throws Error(Usage).
size_t parse_bytes(const std::string& text, const std::string& flag = "--memory");

// What a run will hold beside weights.
struct RunMemory {
  std::vector<size_t> sequences;  // tokens of each whose keys and values are kept
  size_t prompt = 1;              // tokens of the longest
  size_t logits = 1;              // rows of the vocabulary at a time
  size_t other = 0;               // bytes
};

// Keeps the process under the budget that the command line names, else under what the machine, and the control group that the
// process is in, have free: all experts stay in memory if they fit, else as many as do, and the others are read when tokens
// choose them, which a line on stderr says. Throws Error(Input) naming the least that works if the budget is below it.
void fit_memory(OpenModel& model, const ModelArguments& arguments, const RunMemory& run);

}  // namespace moiety::cli
