// A server for tests: on a free port, quiet, with handlers that can be watched.
#pragma once

#include <boost/asio/this_coro.hpp>
#include <condition_variable>
#include <mutex>

#include "server/event.h"
#include "server/http_server.h"
#include "server/operation.h"
#include "server/test_client.h"

namespace moiety::server {

// Counts that other threads wait for, a minute at most.
class Counter {
 public:
  void operator++() {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  int count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  bool reaches(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return count_ >= count; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

struct TestServer {
  explicit TestServer(HttpOptions options = {}, std::vector<Route> more = {}) {
    if (options.unix_socket.empty()) options.port = 0;
    std::vector<Route> routes = {
        {"POST", "/echo", [](Exchange& e) -> Task<> { co_await e.answer(200, "text/plain", e.request().body); }},
        {"GET", "/v1/client", [](Exchange& e) -> Task<> {
           co_await e.answer(200, "text/plain", fmt::format("{} {} {}", e.request().client, e.request().priority, e.request().max_priority));
         }},
        {"POST", "/wait", [this](Exchange& e) { return wait(e); }},
        {"POST", "/v1/messages", [](Exchange&) -> Task<> { throw HttpError(422, "no"); co_return; }},
        {"GET", "/events", [this](Exchange& e) { return events(e, 3); }},
        {"GET", "/endless", [this](Exchange& e) { return events(e, 1 << 30); }},
    };
    for (Route& route : more) routes.push_back(std::move(route));
    server = std::make_unique<HttpServer>(std::move(options), std::move(routes), log, metrics);
    server->add_routes(operation_routes(*server, metrics));
    server->set_ready();
  }
  ~TestServer() { server.reset(); }

  uint16_t port() const { return server->port(); }
  TestClient client() const { return TestClient(port()); }
  std::string logged() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

  // Notes when a handler begins and, however that happens, when what it holds is destroyed.
  struct Presence {
    explicit Presence(TestServer& server) : server_(server) { ++server_.begun; }
    ~Presence() { ++server_.gone; }
    TestServer& server_;
  };
  Task<> wait(Exchange& e) {
    const Presence presence(*this);
    Event never(co_await boost::asio::this_coro::executor);
    for (;;) co_await never.wait();
    co_await e.answer(200, "text/plain", "");
  }
  Task<> events(Exchange& e, int count) {
    const Presence presence(*this);
    co_await e.begin_events();
    for (int i = 0; i < count; ++i) co_await e.send_event(std::to_string(i) + std::string(count > 3 ? 1000 : 0, '.'));
    co_await e.end_events();
  }

  Counter begun, gone;
  Metrics metrics;
  std::mutex mutex_;
  std::string lines_;  // guarded by mutex_
  Log log{[this](std::string_view line) {
    const std::lock_guard lock(mutex_);
    lines_ += line;
  }};
  std::unique_ptr<HttpServer> server;
};

}  // namespace moiety::server
