#include "cli/routing_chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/json.h"
#include "cli/svg.h"

namespace moiety::cli {
namespace {

constexpr double kWidth = 720, kLeft = 60, kRight = 700, kHead = 50, kPanel = 130, kPlot = 90;

struct Figure {
  const char *list, *name, *title;
};
constexpr Figure kFigures[] = {
    {"load", "max_over_mean", "the busiest expert's load over the mean"},
    {"load", "entropy", "entropy of the load (1: even)"},
    {"load", "router_entropy", "entropy of the router (1: undecided)"},
    {"load", "idle", "experts that nobody visits"},
    {"load", "dropped", "share of visits turned away"},
    {"routing", "specialisation", "specialisation, on held-out text (1: domains share no expert)"},
};

struct Point {
  double step, value;
};
using Curves = std::vector<std::vector<Point>>;  // by layer

void add(const Json& line, const Figure& figure, Curves& curves) {
  if (!line.is_object() || !line.contains("step") || !line["step"].is_number() || !line.contains(figure.list)) return;
  const Json& layers = line[figure.list];
  if (!layers.is_array()) return;
  curves.resize(std::max(curves.size(), layers.size()));
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (!layers[layer].is_object() || !layers[layer].contains(figure.name) || !layers[layer][figure.name].is_number()) continue;
    curves[layer].push_back({line["step"].get<double>(), layers[layer][figure.name].get<double>()});
  }
}

std::vector<Json> lines_of(std::string_view text) {
  std::vector<Json> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(Json::parse(text.substr(0, end), nullptr, false));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return lines;
}

std::string panel(const Curves& curves, const char* title, double last_step, double top) {
  double highest = 0;
  for (const auto& curve : curves) {
    for (const Point& point : curve) highest = std::max(highest, point.value);
  }
  highest = highest > 0 ? highest * 1.05 : 1;
  const double bottom = top + kPlot;
  std::string svg = svg_text(kLeft, top - 6, "start", 12, title);
  for (const double share : {0.0, 0.5, 1.0}) {
    const double y = bottom - share * kPlot;
    svg += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", kLeft, y, kRight, y);
    svg += svg_text(kLeft - 6, y + 4, "end", 10, fmt::format("{:.3g}", share * highest));
  }
  for (size_t layer = 0; layer < curves.size(); ++layer) {
    std::string path;
    for (const Point& point : curves[layer]) {
      path += fmt::format("{:.1f},{:.1f} ", kLeft + (kRight - kLeft) * point.step / last_step, bottom - kPlot * point.value / highest);
    }
    const double depth = curves.size() > 1 ? static_cast<double>(layer) / static_cast<double>(curves.size() - 1) : 1;
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"><title>layer {}</title></polyline>\n", path,
                       svg_share_colour(0.5 + 3.5 * depth), layer);
  }
  return svg;
}

}  // namespace

std::string draw_routing_chart(const std::string& title, std::string_view metrics) {
  const std::vector<Json> lines = lines_of(metrics);
  double last_step = 1;
  for (const Json& line : lines) {
    if (line.is_object() && line.contains("step") && line["step"].is_number()) last_step = std::max(last_step, line["step"].get<double>());
  }
  std::string panels;
  double top = kHead + 20;
  for (const Figure& figure : kFigures) {
    Curves curves;
    for (const Json& line : lines) add(line, figure, curves);
    if (std::ranges::all_of(curves, [](const auto& curve) { return curve.empty(); })) continue;
    panels += panel(curves, figure.title, last_step, top);
    top += kPanel;
  }
  return svg_start(kWidth, top + 10) + svg_text(kLeft, 28, "start", 15, title) + panels +
         svg_text(kRight, top - 12, "end", 12, fmt::format("steps 0 to {:.0f}; layers from light (first) to dark (last)", last_step)) + "</svg>\n";
}

}  // namespace moiety::cli
