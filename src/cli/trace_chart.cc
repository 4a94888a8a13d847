#include "cli/trace_chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "cli/svg.h"

namespace moiety::cli {
namespace {

constexpr double kMargin = 16, kLabelWidth = 70, kHeadHeight = 66, kCurveWidth = 420, kCurveHeight = 220;

std::string map_row(const trace::LayerReport& layer, double y, double cell, double height) {
  const double all = static_cast<double>(std::max<int64_t>(1, std::accumulate(layer.visits_E.begin(), layer.visits_E.end(), int64_t{0})));
  std::string svg;
  if (height >= 9) svg += svg_text(kLabelWidth - 6, y + height - 3, "end", 10, fmt::format("layer {}", layer.number));
  for (size_t e = 0; e < layer.visits_E.size(); ++e) {
    const double share = static_cast<double>(layer.visits_E[e]) / all;
    svg += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"><title>layer {}, expert {}: {:.1f} % of "
        "visits</title></rect>\n",
        kLabelWidth + cell * static_cast<double>(e), y, cell, height, svg_share_colour(share * static_cast<double>(layer.visits_E.size())),
        layer.number, e, 100 * share);
  }
  return svg;
}

std::string curves(const trace::Report& report, double top) {
  std::string svg = svg_text(kLabelWidth, top - 14, "start", 13, "best hit rate of a cache (SCH), mean of layers");
  for (int i = 0; i <= 4; ++i) {
    const double y = top + kCurveHeight * (1 - i / 4.0);
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", kLabelWidth, y,
                       kLabelWidth + kCurveWidth, y);
    svg += svg_text(kLabelWidth - 6, y + 4, "end", 11, fmt::format("{} %", 25 * i));
  }
  const double largest = *std::max_element(report.cache_sizes.begin(), report.cache_sizes.end());
  const auto x_of = [&](size_t size) { return kLabelWidth + kCurveWidth * report.cache_sizes[size] / largest; };
  for (size_t size = 0; size < report.cache_sizes.size(); ++size) {
    svg += svg_text(x_of(size), top + kCurveHeight + 18, "middle", 11, fmt::format("{:g}", report.cache_sizes[size]));
  }
  svg += svg_text(kLabelWidth + kCurveWidth / 2, top + kCurveHeight + 36, "middle", 11,
                  fmt::format("experts in the cache of a layer, times the {} of a token", report.header.experts_per_token));
  for (size_t s = 0; s < report.segments.size(); ++s) {
    const char* colour = kSvgColours[s % std::size(kSvgColours)];
    std::string points, dots;
    for (size_t size = 0; size < report.cache_sizes.size(); ++size) {
      const double rate = report.cache_rate(s, size), y = top + kCurveHeight * (1 - rate);
      points += fmt::format("{:.1f},{:.1f} ", x_of(size), y);
      dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{} tokens known, {} experts: {:.1f} %</title></circle>\n",
                          x_of(size), y, colour, report.segments[s], report.slots[size], 100 * rate);
    }
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", points, colour) + dots;
    const double x = kLabelWidth + kCurveWidth + 16, y = top + 18 * static_cast<double>(s);
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"4\" fill=\"{}\"/>\n", x, y + 4, colour);
    svg += svg_text(x + 16, y + 10, "start", 11, fmt::format("{} tokens known", report.segments[s]));
  }
  return svg;
}

}  // namespace

std::string draw_trace_chart(const std::string& title, const trace::Report& report) {
  const double layers = static_cast<double>(report.layers.size());
  const double cell = std::clamp(640.0 / report.header.num_experts, 3.0, 24.0), height = std::clamp(400.0 / layers, 4.0, 16.0);
  const double width = std::max(640.0, kLabelWidth + cell * report.header.num_experts + kMargin);
  const double curve_top = kHeadHeight + height * layers + 60;

  std::string svg = svg_start(width, curve_top + kCurveHeight + 50);
  svg += svg_text(kMargin, 24, "start", 15, title);
  svg += svg_text(kLabelWidth, kHeadHeight - 8, "start", 11, fmt::format("experts 0 to {}", report.header.num_experts - 1));
  svg += svg_share_legend(width - kMargin, 32);
  for (size_t layer = 0; layer < report.layers.size(); ++layer) {
    svg += map_row(report.layers[layer], kHeadHeight + height * static_cast<double>(layer), cell, height);
  }
  return svg + curves(report, curve_top) + "</svg>\n";
}

}  // namespace moiety::cli
