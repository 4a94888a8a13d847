// A picture of a trace: how often each layer visits each expert, and what caches of some size would have found.
#pragma once

#include <string>

#include "trace/report.h"

namespace moiety::cli {

// An SVG document: a map with a row a layer and a column an expert, shaded by the expert's share of the layer's visits over the
// even share; below it the best hit rate of caches over their size, a line for each number of tokens that they know beforehand.
// Hovering shows the numbers.
std::string draw_trace_chart(const std::string& title, const trace::Report& report);

}  // namespace moiety::cli
