#include "cli/bench_chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "cli/svg.h"

namespace moiety::cli {
namespace {

using bench::Phase;
using bench::Result;

constexpr double kWidth = 300, kHeight = 220;  // of a panel's plot
constexpr double kLeft = 56, kRight = 16, kGap = 24, kTop = 84, kBottom = 44, kLegendRow = 18;
constexpr size_t kLegendColumns = 3;
constexpr double kPanel = kLeft + kWidth + kRight + kGap;

// One picture: results over a number that they differ in, joined where another number is the same.
struct Panel {
  std::string title, x_name, line_name;
  std::map<size_t, std::map<size_t, const Result*>> lines;  // by the line's number, by x
};

Panel panel_of(const std::vector<Result>& results, Phase phase, std::string title, std::string x_name, size_t bench::Case::*x,
               std::string line_name, size_t bench::Case::*line) {
  Panel panel{std::move(title), std::move(x_name), std::move(line_name), {}};
  for (const Result& result : results) {
    if (result.run.phase == phase) panel.lines[result.run.*line][result.run.*x] = &result;
  }
  return panel;
}

// A round number no smaller than `value`, to end an axis with: 1, 2 or 5 times a power of ten.
double round_up(double value) {
  const double power = std::pow(10, std::floor(std::log10(std::max(value, 1e-9))));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= value) return factor * power;
  }
  return 10 * power;
}

std::string polyline(const std::string& points, const char* colour, const char* dash) {
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{}\"/>\n", points,
                     colour, dash);
}

std::string axes(const Panel& panel, double left, double top_value, const std::map<size_t, double>& x_of) {
  std::string svg = svg_text(left, kTop - 14, "start", 13, panel.title);
  for (int i = 0; i <= 4; ++i) {
    const double y = kTop + kHeight * (1 - i / 4.0);
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", left, y, left + kWidth, y);
    svg += svg_text(left - 6, y + 4, "end", 11, fmt::format("{:g}", top_value * i / 4));
  }
  for (const auto& [value, x] : x_of) svg += svg_text(x, kTop + kHeight + 18, "middle", 11, fmt::format("{}", value));
  return svg + svg_text(left + kWidth / 2, kTop + kHeight + 36, "middle", 11, panel.x_name);
}

std::string draw(const Panel& panel, double left) {
  double most = 0;
  std::map<size_t, double> x_of;
  for (const auto& [number, line] : panel.lines) {
    for (const auto& [x, result] : line) {
      most = std::max({most, result->tokens_per_second(), result->bound_tokens_per_second()});
      x_of[x] = 0;
    }
  }
  const double top_value = round_up(most), step = kWidth / static_cast<double>(x_of.size());
  double at = left + step / 2;
  for (auto& [value, x] : x_of) x = at, at += step;
  const auto y_of = [&](double value) { return kTop + kHeight * (1 - value / top_value); };

  std::string svg = axes(panel, left, top_value, x_of);
  size_t drawn = 0;
  for (const auto& [number, line] : panel.lines) {
    const char* colour = kSvgColours[drawn % std::size(kSvgColours)];
    std::string measured, bound, dots;
    for (const auto& [x, result] : line) {
      const double speed = result->tokens_per_second(), most_possible = result->bound_tokens_per_second();
      measured += fmt::format("{:.1f},{:.1f} ", x_of[x], y_of(speed));
      bound += fmt::format("{:.1f},{:.1f} ", x_of[x], y_of(most_possible));
      for (const auto& [value, radius] : {std::pair(speed, 4.0), {most_possible, 2.0}}) {
        dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"><title>{:.1f} tokens/s, {:.0f} % of {:.1f}</title></circle>\n",
                            x_of[x], y_of(value), radius, colour, speed, 100 * result->share_of_bound(), most_possible);
      }
    }
    svg += polyline(bound, colour, "5 4") + polyline(measured, colour, "none") + dots;
    const double x = left + 4 + 100 * static_cast<double>(drawn % kLegendColumns);
    const double y = kTop + kHeight + kBottom + kLegendRow * static_cast<double>(drawn / kLegendColumns);
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"4\" fill=\"{}\"/>\n", x, y + 4, colour);
    svg += svg_text(x + 16, y + 10, "start", 11, fmt::format("{} {}", panel.line_name, number));
    ++drawn;
  }
  return svg;
}

}  // namespace

std::string draw_bench_chart(const std::string& title, const std::vector<Result>& results) {
  using bench::Case;
  std::vector<Panel> panels{
      panel_of(results, Phase::Decode, "decode, tokens/s", "sequences side by side", &Case::sequences, "depth", &Case::depth),
      panel_of(results, Phase::Decode, "decode, tokens/s", "depth", &Case::depth, "batch", &Case::sequences),
      panel_of(results, Phase::Prefill, "prefill, tokens/s", "depth", &Case::depth, "prompt", &Case::tokens)};
  std::erase_if(panels, [](const Panel& panel) { return panel.lines.empty(); });
  size_t most_lines = 0;
  for (const Panel& panel : panels) most_lines = std::max(most_lines, panel.lines.size());
  const double legend = kLegendRow * static_cast<double>((most_lines + kLegendColumns - 1) / kLegendColumns);
  std::string svg = svg_start(kPanel * static_cast<double>(panels.size()) + kGap, kTop + kHeight + kBottom + legend + 8);
  svg += svg_text(kGap, 26, "start", 15, title);
  svg += svg_text(kGap, 46, "start", 11, "solid: measured; dashed: what memory or arithmetic of this machine would allow");
  double left = kGap + kLeft;
  for (const Panel& panel : panels) {
    svg += draw(panel, left);
    left += kPanel;
  }
  return svg + "</svg>\n";
}

}  // namespace moiety::cli
