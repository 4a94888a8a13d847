// A picture of speed over batch and depth, with what the machine would allow drawn in.
#pragma once

#include <string>
#include <vector>

#include "bench/measure.h"

namespace moiety::cli {

// An SVG document: tokens a second of decoding over the batch and over the depth, and of prompts over the depth. What was
// measured is solid, what the limits of the machine would allow is dashed; hovering over a point shows its numbers.
std::string draw_bench_chart(const std::string& title, const std::vector<bench::Result>& results);

}  // namespace moiety::cli
