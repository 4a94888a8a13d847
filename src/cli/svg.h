// Pieces of SVG that the charts share.
#pragma once

#include <string>

namespace moiety::cli {

// With &, < and > written so that they stand for themselves.
std::string svg_escaped(const std::string& words);
// `anchor`: "start", "middle" or "end".
std::string svg_text(double x, double y, const char* anchor, double size, const std::string& words);
// The beginning of a white picture; "</svg>\n" ends it.
std::string svg_start(double width, double height);

}  // namespace moiety::cli
