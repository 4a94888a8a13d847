// A picture of which experts each domain used: a panel a layer, a row a domain, a column an expert.
#pragma once

#include <string>
#include <vector>

#include "moe/load.h"

namespace moiety::cli {

struct DomainLoad {
  std::string name;
  moe::Load load;
};

// An SVG document. The shade is an expert's share of the domain's visits over the even share: white none, mid even, dark
// four times as much or more; hovering shows the number. All loads must have the same layers and experts.
std::string draw_expert_chart(const std::string& title, const std::vector<DomainLoad>& domains);

}  // namespace moiety::cli
