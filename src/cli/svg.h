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

// Colours of lines, told apart also by colour-blind eyes (Okabe and Ito 2008).
inline constexpr const char* kSvgColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

// What is `ratio` times its even share: white over blue to near black, the darkest from 4 times on; steps of equal lightness, also
// in grey and to colour-blind eyes.
std::string svg_share_colour(double ratio);
// What these colours mean, ending at `right`.
std::string svg_share_legend(double right, double y);

}  // namespace moiety::cli
