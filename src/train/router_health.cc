#include "train/router_health.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "base/error.h"

namespace moiety::train {
namespace {

// Which numbers a list of whole numbers of a checkpoint holds, each in its range.
std::vector<int64_t> numbers_in(const Json& list, const std::vector<int64_t>& ends, const std::string& where) {
  require(list.is_array() && list.size() == ends.size(), "{}: {} is no list of {} numbers", where, list.dump(), ends.size());
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < ends.size(); ++i) {
    require(list[i].is_number_integer() && list[i].get<int64_t>() >= 0 && list[i].get<int64_t>() < ends[i], "{}: {} in {} is out of range", where,
            list[i].dump(), list.dump());
    numbers.push_back(list[i].get<int64_t>());
  }
  return numbers;
}

std::string list_of(const std::vector<int>& experts) {
  constexpr size_t kNamed = 8;
  const std::span named = std::span(experts).first(std::min(experts.size(), kNamed));
  const std::string more = experts.size() > kNamed ? fmt::format(" and {} more", experts.size() - kNamed) : "";
  return fmt::format("{} {}{}", experts.size() == 1 ? "expert" : "experts", fmt::join(named, ", "), more);
}

}  // namespace

RouterHealth::RouterHealth(std::vector<std::string> names, std::vector<int> experts) {
  for (size_t r = 0; r < names.size(); ++r) routers_.push_back({std::move(names[r]), std::vector<int64_t>(static_cast<size_t>(experts[r]), 0), {}});
}

std::vector<int> RouterHealth::Router::dead() const {
  std::vector<int> dead;
  for (size_t e = 0; e < unvisited_E.size(); ++e) {
    if (unvisited_E[e] >= kDeadAfter) dead.push_back(static_cast<int>(e));
  }
  return dead;
}

void RouterHealth::add(const moe::Load& load) {
  for (size_t r = 0; r < routers_.size(); ++r) {
    const auto visits_E = load.of_layer(static_cast<int>(r));
    for (size_t e = 0; e < routers_[r].unvisited_E.size(); ++e) {
      int64_t& unvisited = routers_[r].unvisited_E[e];
      unvisited = visits_E[e] > 0 ? 0 : unvisited + 1;
    }
  }
}

std::vector<std::string> RouterHealth::look(Json& figures) {
  std::vector<std::string> news;
  for (size_t r = 0; r < routers_.size(); ++r) {
    Router& router = routers_[r];
    Json& of = figures[r];
    const auto follow = [&](Sign sign, bool begins, bool ends, const std::string& bad, const std::string& good) {
      bool& shows = router.shows[sign];
      if (shows ? !ends : !begins) return;
      shows = !shows;
      news.push_back(fmt::format("{}: {}", router.name, shows ? bad : good));
    };
    const std::vector<int> dead = router.dead();
    of["dead"] = dead.size();
    follow(kDead, !dead.empty(), dead.empty(), fmt::format("nobody has visited {} for {} steps", list_of(dead), kDeadAfter), "every expert is visited again");
    if (router.unvisited_E.size() == 1) continue;
    const double entropy = of.at("entropy").get<double>();
    follow(kCollapse, entropy < kCollapsed, entropy > kSpread, fmt::format("few experts do all the work, the load's entropy is {:.2f} of an even one's", entropy),
           fmt::format("the load is spread again, its entropy {:.2f} of an even one's", entropy));
    const double size = std::sqrt(of.value("z_loss", 0.0));
    follow(kLogits, size > kLargeLogits, size < kSmallLogits, fmt::format("the router's logits are large, the log of their exponentials' sum {:.0f}", size),
           "the router's logits are small again");
  }
  return news;
}

// Most experts have just been visited.
Json RouterHealth::state() const {
  Json unvisited = Json::array(), shows = Json::array();
  for (size_t r = 0; r < routers_.size(); ++r) {
    for (size_t e = 0; e < routers_[r].unvisited_E.size(); ++e) {
      if (routers_[r].unvisited_E[e] > 0) unvisited.push_back({r, e, routers_[r].unvisited_E[e]});
    }
    for (size_t sign = 0; sign < kSigns; ++sign) {
      if (routers_[r].shows[sign]) shows.push_back({r, sign});
    }
  }
  return {{"unvisited", unvisited}, {"shows", shows}};
}

void RouterHealth::restore(const Json& state, const std::string& where) {
  for (Router& router : routers_) {
    std::ranges::fill(router.unvisited_E, 0);
    router.shows.fill(false);
  }
  if (state.is_null()) return;
  const JsonObject object(state, where);
  const auto routers = static_cast<int64_t>(routers_.size());
  for (const Json& entry : object.array("unvisited")) {
    const auto numbers = numbers_in(entry, {routers, INT64_MAX, INT64_MAX}, where);
    Router& router = routers_[static_cast<size_t>(numbers[0])];
    require(numbers[1] < static_cast<int64_t>(router.unvisited_E.size()), "{}: {} has no expert {}", where, router.name, numbers[1]);
    router.unvisited_E[static_cast<size_t>(numbers[1])] = numbers[2];
  }
  for (const Json& entry : object.array("shows")) {
    const auto numbers = numbers_in(entry, {routers, kSigns}, where);
    routers_[static_cast<size_t>(numbers[0])].shows[static_cast<size_t>(numbers[1])] = true;
  }
}

}  // namespace moiety::train
