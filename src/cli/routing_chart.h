// A picture of how a training run's routing developed: a panel a figure, a line a layer, over the steps.
#pragma once

#include <string>
#include <string_view>

namespace moiety::cli {

// An SVG document from the lines of a run's metrics.jsonl: max_over_mean, entropy, router_entropy, idle and dropped of training,
// specialisation of held-out text (docs/training.md says what they are). A figure that no line has gets no panel; a line that is
// none of ours is passed over. The first layer is the lightest, the last the darkest.
std::string draw_routing_chart(const std::string& title, std::string_view metrics);

}  // namespace moiety::cli
