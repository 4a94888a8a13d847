// One client's requests, one after the other, and what all sessions of a server share.
#pragma once

#include <atomic>
#include <boost/asio/cancellation_signal.hpp>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "server/api_keys.h"
#include "server/connection.h"
#include "server/http_exchange.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/request_parser.h"
#include "server/route_table.h"

namespace moiety::server {

class HttpSession;

// All but the atomics is the executor's alone.
struct ServerState {
  HttpOptions options;
  Log& log;
  Metrics& metrics;
  std::optional<ApiKeys> keys;
  RouteTable routes;
  std::atomic<Phase> phase = Phase::Loading;
  std::set<HttpSession*> sessions;
  std::atomic<size_t> running = 0;  // handlers
  size_t body_bytes = 0;            // of all requests that are there, or on their way
};

class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  // `address` is the client's. One that is too many is answered 503, whatever it asks.
  HttpSession(ServerState& state, const boost::asio::any_io_executor& executor, std::unique_ptr<Stream> stream, std::string address,
              bool is_too_many);
  ~HttpSession();

  // Until the connection ends. To be spawned with slot(), through which handlers are cancelled.
  Task<> run();
  boost::asio::cancellation_slot slot() { return cancellation_.slot(); }

  // Ends the connection if it is between requests, else after this one.
  void drain();
  bool is_draining() const { return is_draining_; }
  // Ends the request that runs; the client is told why.
  void cancel(const HttpError& reason);
  // Ends all without a word.
  void cut_off();

 private:
  class BodyAllowance;

  Task<bool> serve_one();
  Task<bool> wait_for_request();
  Task<std::shared_ptr<const Route>> receive(RequestParser& parser, HttpExchange& exchange, BodyAllowance& allowance);
  Task<> read_head(RequestParser& parser);
  Task<> read_body(RequestParser& parser, BodyAllowance& allowance);
  Task<> wait_for_bytes();
  void set_out(RequestParser& parser, HttpExchange& exchange);
  std::shared_ptr<const Route> choose_route(HttpExchange& exchange);
  void check_origin(HttpExchange& exchange);
  void check_key(HttpRequest& request, const Route& route);
  void check_phase(const Route& route) const;
  Task<std::optional<HttpError>> handle(std::shared_ptr<const Route> route, HttpExchange& exchange);
  std::optional<HttpError> what_to_tell(std::exception_ptr problem, const HttpExchange& exchange);
  void cancel_handler();
  Task<> preflight(Exchange& exchange, std::string allowed);
  void record(const HttpExchange& exchange, std::chrono::steady_clock::time_point since);

  ServerState& state_;
  std::shared_ptr<Connection> connection_;
  std::string address_;
  bool is_too_many_, is_draining_ = false, is_running_ = false;  // running: its handler
  bool is_endless_ = false;                                      // … which does not end by itself
  boost::asio::cancellation_signal cancellation_;
  std::optional<HttpError> cancelled_;  // why
  std::string pattern_, problem_;       // for the log and metrics
};

}  // namespace moiety::server
