// A server of HTTP/1.1: it listens, keeps to its limits, hands requests to the handlers of its routes, and ends in good order.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/exchange.h"
#include "server/http_options.h"
#include "server/log.h"
#include "server/metrics.h"

namespace moiety::server {

class HttpServer {
 public:
  // Listens at once and answers in a thread of its own; what isn't marked `always` is refused with 503 until set_ready(). `log`
  // and `metrics` outlive it. Throws Error(Io) if it can't listen, Error(Input) if a file of the options can't be used.
  HttpServer(HttpOptions options, std::vector<Route> routes, Log& log, Metrics& metrics);
  // Ends at once; whoever is connected is cut off.
  ~HttpServer();

  std::string address() const;  // "http://127.0.0.1:8080", "unix:/run/moiety.sock"
  uint16_t port() const;        // 0 of a Unix socket

  // All that follow may be called by any thread.
  void add_routes(std::vector<Route> routes);
  void set_ready();
  Phase phase() const;
  // Of now, roughly.
  size_t connections() const;
  size_t running() const;  // handlers

  // Takes no more requests, waits for those that run up to options.drain_time, cancels the rest and ends.
  void drain();
  void stop();  // at once
  // Until it has ended. Returns whether it was drained, all requests answered or told why not.
  bool wait();
  // Called by the server's thread when it begins to drain, and when it is about to end because it was drained,
  // stopped, or told to by signals; not by its destructor.
  void on_drain(std::function<void()> act);
  void on_end(std::function<void()> act);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moiety::server
