#include "cli/run_chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/progress.h"
#include "cli/svg.h"

namespace moiety::cli {
namespace {

constexpr double kPanelWidth = 360, kPanelHeight = 300, kLeft = 60, kTop = 50, kGap = 60, kLegendLine = 18;
constexpr int kPoints = 200;      // of a line
constexpr double kShown = 0.02;   // share of the run that lies before the first point: the fall from ln(vocabulary) says little

struct Point {
  double x, loss;
};

struct Panel {
  runs::Axis axis;
  const char* title;
};
constexpr Panel kPanels[] = {{runs::Axis::Tokens, "tokens"}, {runs::Axis::Flops, "FLOPs"}, {runs::Axis::Seconds, "minutes of training"}};

// The run's loss at points that lie evenly, each the mean over the steps since the one before.
std::vector<Point> curve(const runs::Run& run, runs::Axis axis) {
  std::vector<Point> points;
  const double end = runs::at(run, run.last(), axis);
  if (end <= 0) return points;
  double sum = 0, count = 0;
  int next = 1;
  for (const runs::Step& step : run.steps) {
    sum += step.loss;
    ++count;
    const double used = runs::at(run, step, axis);
    if (used < end * next / kPoints) continue;
    if (used >= end * kShown) points.push_back({used, sum / count});
    sum = count = 0;
    while (next <= kPoints && used >= end * next / kPoints) ++next;
  }
  return points;
}

// 1, 2 or 5 times a power of ten, so that about five fit.
double tick(double range) {
  const double raw = range / 5, unit = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (raw <= step * unit) return step * unit;
  }
  return 10 * unit;
}

std::string line(const std::vector<Point>& points, const char* colour, const std::string& title, const auto& x, const auto& y) {
  std::string at;
  for (const Point& point : points) at += fmt::format("{:.1f},{:.1f} ", x(point.x), y(point.loss));
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" stroke-opacity=\"0.8\"><title>{}</title></polyline>\n", at,
                     colour, svg_escaped(title));
}

// Strokes on the axis, where steps were passed over.
std::string marks(const runs::Run& run, runs::Axis axis, const char* colour, const auto& x) {
  std::string svg;
  for (const runs::Step& step : run.bad) {
    svg += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\" stroke-width=\"1.5\"><title>{4}: step {5} was bad</title></line>\n",
                       x(runs::at(run, step, axis)), kTop + kPanelHeight - 8, kTop + kPanelHeight, colour, svg_escaped(run.name), step.step);
  }
  return svg;
}

std::string draw_panel(const Panel& panel, double left, std::span<const runs::Run> all, const std::vector<runs::Group>& groups) {
  double most = 0, low = std::numeric_limits<double>::infinity(), high = 0;
  for (const runs::Run& run : all) {
    for (const Point& point : curve(run, panel.axis)) {
      most = std::max(most, point.x);
      low = std::min(low, point.loss);
      high = std::max(high, point.loss);
    }
  }
  std::string svg = svg_text(left + kPanelWidth / 2, kTop + kPanelHeight + 36, "middle", 12, panel.title);
  if (most <= 0) return svg + svg_text(left + kPanelWidth / 2, kTop + kPanelHeight / 2, "middle", 12, "not known of these runs");
  if (high - low < 1e-6) high = low + 1e-6;

  const auto x = [&](double value) { return left + kPanelWidth * value / most; };
  const auto y = [&](double loss) { return kTop + kPanelHeight * (high - loss) / (high - low); };
  const double loss_tick = tick(high - low);
  for (double at = std::ceil(low / loss_tick) * loss_tick; at <= high; at += loss_tick) {
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", left, y(at), left + kPanelWidth, y(at));
    svg += svg_text(left - 6, y(at) + 4, "end", 11, fmt::format("{:.4g}", at));
  }
  const double unit = panel.axis == runs::Axis::Seconds ? 60 : 1, axis_tick = tick(most / unit) * unit;
  for (double at = 0; at <= most; at += axis_tick) {
    svg += svg_text(x(at), kTop + kPanelHeight + 16, "middle", 11, unit > 1 ? fmt::format("{:.4g}", at / unit) : short_number(at));
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const size_t r : groups[g].runs) {
      const char* const colour = kSvgColours[g % std::size(kSvgColours)];
      svg += line(curve(all[r], panel.axis), colour, all[r].name, x, y) + marks(all[r], panel.axis, colour, x);
    }
  }
  return svg;
}

}  // namespace

std::string draw_run_chart(std::span<const runs::Run> all, const std::vector<runs::Group>& groups) {
  const double width = kLeft + 3 * (kPanelWidth + kGap);
  const double legend = kTop + kPanelHeight + 62;
  std::string svg = svg_start(width, legend + kLegendLine * static_cast<double>(groups.size()) + 10);
  svg += svg_text(kLeft, 28, "start", 15, "Training loss (nats a token)");
  double left = kLeft;
  for (const Panel& panel : kPanels) {
    svg += draw_panel(panel, left, all, groups);
    left += kPanelWidth + kGap;
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    const double at = legend + kLegendLine * static_cast<double>(g);
    svg += fmt::format("<line x1=\"{0}\" y1=\"{2:.1f}\" x2=\"{1}\" y2=\"{2:.1f}\" stroke=\"{3}\" stroke-width=\"3\"/>\n", kLeft, kLeft + 24, at - 4,
                       kSvgColours[g % std::size(kSvgColours)]);
    svg += svg_text(kLeft + 32, at, "start", 12, fmt::format("{} ({} run{})", groups[g].label, groups[g].runs.size(), groups[g].runs.size() == 1 ? "" : "s"));
  }
  return svg + "</svg>\n";
}

}  // namespace moiety::cli
