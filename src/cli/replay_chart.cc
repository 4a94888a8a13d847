#include "cli/replay_chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "cli/svg.h"

namespace moiety::cli {

std::string draw_replay_chart(const std::string& title, const std::vector<ReplayPoint>& points) {
  constexpr double kWidth = 720, kHeight = 420, kLeft = 60, kTop = 50, kRight = 600, kBottom = 370;
  size_t most = 1;
  std::vector<std::string> policies;
  for (const ReplayPoint& point : points) {
    most = std::max(most, point.slots);
    if (std::ranges::find(policies, point.policy) == policies.end()) policies.push_back(point.policy);
  }
  const auto x = [&](size_t slots) { return kLeft + (kRight - kLeft) * static_cast<double>(slots) / static_cast<double>(most); };
  const auto y = [&](double rate) { return kBottom - (kBottom - kTop) * rate; };

  std::string svg = svg_start(kWidth, kHeight) + svg_text(kLeft, 28, "start", 15, "Found in memory by size of the cache: " + title);
  for (int tenth = 0; tenth <= 10; tenth += 2) {
    const double at = y(tenth / 10.0);
    svg += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", kLeft, at, kRight, at);
    svg += svg_text(kLeft - 8, at + 4, "end", 12, fmt::format("{} %", 10 * tenth));
  }
  std::vector<size_t> sizes;
  for (const ReplayPoint& point : points) sizes.push_back(point.slots);
  std::ranges::sort(sizes);
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for (const size_t slots : sizes) svg += svg_text(x(slots), kBottom + 18, "middle", 12, fmt::format("{}", slots));
  svg += svg_text((kLeft + kRight) / 2, kBottom + 38, "middle", 12, "experts in memory");
  for (size_t p = 0; p < policies.size(); ++p) {
    const char* const colour = policies[p] == "belady" ? "#000000" : kSvgColours[p % std::size(kSvgColours)];
    std::vector<ReplayPoint> line;
    std::ranges::copy_if(points, std::back_inserter(line), [&](const ReplayPoint& point) { return point.policy == policies[p]; });
    std::ranges::sort(line, {}, &ReplayPoint::slots);
    std::string path;
    for (const ReplayPoint& point : line) {
      path += fmt::format("{:.1f},{:.1f} ", x(point.slots), y(point.hit_rate));
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}: {} experts, {:.2f} %</title></circle>\n", x(point.slots),
                         y(point.hit_rate), colour, point.policy, point.slots, 100 * point.hit_rate);
    }
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", path, colour);
    const double at = kTop + 10 + 20 * static_cast<double>(p);
    svg += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"3\"/>\n", kRight + 14, at - 4, kRight + 34, at - 4, colour);
    svg += svg_text(kRight + 40, at, "start", 12, policies[p]);
  }
  return svg + "</svg>\n";
}

}  // namespace moiety::cli
