#include "cli/expert_chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "cli/svg.h"

namespace moiety::cli {
namespace {

constexpr double kCellHeight = 16, kLabelWidth = 130, kMargin = 16, kPanelGap = 30, kHeadHeight = 62;

double total(std::span<const int64_t> visits_E) {
  return static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));
}

std::string row(const DomainLoad& domain, int layer, double x, double y, double cell) {
  const auto visits_E = domain.load.of_layer(layer);
  const double all = std::max(1.0, total(visits_E));
  std::string svg = svg_text(x - 6, y + kCellHeight - 4, "end", 12, domain.name);
  for (size_t e = 0; e < visits_E.size(); ++e) {
    const double share = static_cast<double>(visits_E[e]) / all;
    svg += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"><title>{}, layer {}, expert {}: "
        "{:.1f} % of visits</title></rect>\n",
        x + cell * static_cast<double>(e), y, cell - 1, kCellHeight - 1, svg_share_colour(share * static_cast<double>(visits_E.size())),
        svg_escaped(domain.name), layer, e, 100 * share);
  }
  return svg;
}

}  // namespace

std::string draw_expert_chart(const std::string& title, const std::vector<DomainLoad>& domains) {
  const int layers = domains.empty() ? 0 : domains[0].load.layers();
  const int experts = domains.empty() ? 0 : domains[0].load.experts();
  const double cell = std::clamp(640.0 / std::max(1, experts), 4.0, 40.0);
  const double panel = kCellHeight * static_cast<double>(domains.size()) + kPanelGap;
  const double width = std::max(640.0, kLabelWidth + cell * experts + 2 * kMargin);
  const double height = kHeadHeight + panel * layers + kMargin;

  std::string svg = svg_start(width, height);
  svg += svg_text(kMargin, 24, "start", 15, title);
  svg += svg_share_legend(width - kMargin, 32);
  for (int layer = 0; layer < layers; ++layer) {
    const double y = kHeadHeight + panel * layer;
    svg += svg_text(kLabelWidth, y + 10, "start", 11, fmt::format("layer {}, experts 0 to {}", layer, experts - 1));
    for (size_t d = 0; d < domains.size(); ++d) {
      svg += row(domains[d], layer, kLabelWidth, y + 16 + kCellHeight * static_cast<double>(d), cell);
    }
  }
  return svg + "</svg>\n";
}

}  // namespace moiety::cli
