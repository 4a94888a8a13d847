#include "server/live.h"

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <string>
#include <utility>

#include "base/system_memory.h"
#include "server/live_events.h"

namespace moiety::server {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kBetween{250};

// Of all answers to a request together.
std::vector<std::vector<float>> visits_of(const Service& service, const std::string& request) {
  std::vector<std::vector<float>> sum_LE;
  for (const uint64_t id : service.answer_ids->find(request)) {
    const std::vector<std::vector<uint32_t>> visits_LE = service.engine.visits_of(id);
    sum_LE.resize(std::max(sum_LE.size(), visits_LE.size()));
    for (size_t layer = 0; layer < visits_LE.size(); ++layer) {
      sum_LE[layer].resize(std::max(sum_LE[layer].size(), visits_LE[layer].size()));
      for (size_t expert = 0; expert < visits_LE[layer].size(); ++expert) {
        sum_LE[layer][expert] += static_cast<float>(visits_LE[layer][expert]);
      }
    }
  }
  return sum_LE;
}

// Adds the map to the event unless it is empty or the one that was sent last.
void add_map(Json& event, const char* name, std::string map, std::string& sent) {
  if (map.empty() || map == sent) return;
  event[name] = map;
  sent = std::move(map);
}

Task<> tell(const Service& service, Exchange& exchange) {
  const auto asked = exchange.request().query.find("request");
  const std::string request = asked == exchange.request().query.end() ? "" : asked->second;
  co_await exchange.begin_events();
  co_await exchange.send_event(model_event(service.engine.spec(), service.engine.options().context).dump(), "model");

  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  engine::EngineStatistics before = service.engine.statistics();
  Clock::time_point since = Clock::now();
  std::string sent_all, sent_answer;
  for (;;) {
    engine::EngineStatistics now = service.engine.statistics();
    const Clock::time_point time = Clock::now();
    Json event = figures_event(before, now, std::chrono::duration<double>(time - since).count(), {resident_memory(), service.memory_budget});
    add_map(event, "all", heat_map(now.load_LE), sent_all);
    if (!request.empty()) add_map(event, "answer", heat_map(visits_of(service, request)), sent_answer);
    co_await exchange.send_event(event.dump());

    before = std::move(now);
    since = time;
    timer.expires_after(kBetween);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

}  // namespace

std::vector<Route> live_routes(const Service& service) {
  return {{.method = "GET", .path = "/live", .handle = [&service](Exchange& exchange) { return tell(service, exchange); }, .endless = true}};
}

}  // namespace moiety::server
