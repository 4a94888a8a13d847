#include "cli/svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace moiety::cli {

std::string svg_escaped(const std::string& words) {
  std::string out;
  for (const char c : words) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else out += c;
  }
  return out;
}

std::string svg_text(double x, double y, const char* anchor, double size, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\">{}</text>\n", x, y, anchor, size,
                     svg_escaped(words));
}

std::string svg_start(double width, double height) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, height);
}

std::string svg_share_colour(double ratio) {
  constexpr double kDarkest = 4;
  const double x = std::sqrt(std::clamp(ratio / kDarkest, 0.0, 1.0));
  const auto mix = [&](double white, double blue, double dark) {
    const double value = x < 0.5 ? white + (blue - white) * 2 * x : blue + (dark - blue) * (2 * x - 1);
    return static_cast<int>(std::lround(value));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(250, 107, 8), mix(251, 174, 29), mix(253, 214, 88));
}

std::string svg_share_legend(double right, double y) {
  std::string svg = svg_text(right - 170, y + 11, "end", 11, "share of visits, times even:");
  const double stops[] = {0, 0.5, 1, 2, 4};
  for (int i = 0; i < 5; ++i) {
    const double x = right - 165 + 33 * i;
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"33\" height=\"10\" fill=\"{}\" stroke=\"#ccc\"/>\n", x, y + 2,
                       svg_share_colour(stops[i]));
    svg += svg_text(x + 16, y + 24, "middle", 10, fmt::format("{}", stops[i]));
  }
  return svg;
}

}  // namespace moiety::cli
