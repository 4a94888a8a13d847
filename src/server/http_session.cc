#include "server/http_session.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "base/error.h"
#include "server/http_text.h"
#include "server/ids.h"

namespace moiety::server {
namespace asio = boost::asio;

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBodyPiece = 64 << 10;  // bytes that options.body_time is for

HttpError unavailable(const std::string& why, int retry_seconds) {
  HttpError error(503, why);
  error.headers = {{"Retry-After", std::to_string(retry_seconds)}};
  return error;
}

}  // namespace

// What this request's body takes of the memory for all bodies.
class HttpSession::BodyAllowance {
 public:
  explicit BodyAllowance(ServerState& state) : state_(state) {}
  ~BodyAllowance() { state_.body_bytes -= bytes_; }
  void grow_to(size_t bytes) {
    if (bytes <= bytes_) return;
    if (state_.body_bytes + (bytes - bytes_) > std::max(state_.options.max_bodies, state_.options.max_body)) {
      throw unavailable("too many long requests at a time", 5);
    }
    state_.body_bytes += bytes - bytes_;
    bytes_ = bytes;
  }

 private:
  ServerState& state_;
  size_t bytes_ = 0;
};

HttpSession::HttpSession(ServerState& state, const asio::any_io_executor& executor, std::unique_ptr<Stream> stream, std::string address,
                         bool is_too_many)
    : state_(state),
      connection_(std::make_shared<Connection>(executor, std::move(stream), state.options)),
      address_(std::move(address)),
      is_too_many_(is_too_many) {
  state_.sessions.insert(this);
}

HttpSession::~HttpSession() { state_.sessions.erase(this); }

Task<> HttpSession::run() {
  const auto self = shared_from_this();
  try {
    if (co_await connection_->begin()) {
      while (co_await serve_one()) {
      }
      co_await connection_->finish();
    }
  } catch (const boost::system::system_error&) {  // the client has left
  }
  connection_->close();
}

void HttpSession::drain() {
  is_draining_ = true;
  connection_->changed.notify();
  if (is_running_ && is_endless_) cancel(HttpError(503, "the server is ending", "server_shutdown"));
}

void HttpSession::cancel(const HttpError& reason) {
  cancelled_ = reason;
  cancel_handler();
  if (!is_running_) connection_->close();
}

void HttpSession::cut_off() {
  connection_->close();
  cancel_handler();
}

void HttpSession::cancel_handler() {
  if (is_running_) cancellation_.emit(asio::cancellation_type::all);
}

// Whether there may be another one to be served.
Task<bool> HttpSession::serve_one() {
  if (!co_await wait_for_request()) co_return false;
  const Clock::time_point since = Clock::now();
  RequestParser parser(state_.options.max_header, state_.options.max_body);
  BodyAllowance allowance(state_);
  HttpExchange exchange(*connection_);
  exchange.keep_alive = false;  // after an error the next request's beginning can't be told
  pattern_.clear();
  problem_.clear();

  std::optional<HttpError> error;
  try {
    const auto route = co_await receive(parser, exchange, allowance);
    error = co_await handle(route, exchange);
  } catch (const HttpError& refusal) {
    error = refusal;
  }
  if (error && !connection_->has_ended()) {
    if (exchange.request().id.empty()) exchange.mutable_request().id = make_id("req_");
    problem_ = problem_.empty() ? error->what() : problem_;
    try {
      co_await exchange.tell(*error);
    } catch (const boost::system::system_error&) {  // it left meanwhile
    }
  }
  record(exchange, since);
  co_return exchange.keep_alive && exchange.has_ended() && !connection_->has_ended();
}

// The request and who is to answer it. Throws HttpError if nobody is.
Task<std::shared_ptr<const Route>> HttpSession::receive(RequestParser& parser, HttpExchange& exchange, BodyAllowance& allowance) {
  co_await read_head(parser);
  const auto keeps_alive = [&] { return parser.keeps_alive() && state_.phase != Phase::Draining; };
  set_out(parser, exchange);
  if (parser.is_complete()) exchange.keep_alive = keeps_alive();
  const auto route = choose_route(exchange);
  co_await read_body(parser, allowance);
  parser.finish();
  exchange.mutable_request().body = std::move(parser.request().body);
  exchange.keep_alive = keeps_alive();
  check_phase(*route);
  co_return route;
}

Task<bool> HttpSession::wait_for_request() {
  connection_->set_deadline(state_.options.idle_time);
  const auto stays = [&] { return !connection_->has_ended() && !connection_->is_late() && !is_draining_; };
  for (;;) {
    // Empty lines between requests are nothing (RFC 9112, 2.2).
    const std::string_view incoming = connection_->incoming();
    const size_t begin = std::min(incoming.find_first_not_of("\r\n"), incoming.size());
    if (begin < incoming.size()) {
      connection_->take(begin);
      break;
    }
    connection_->take(begin);
    if (!stays()) break;
    co_await connection_->changed.wait();
  }
  connection_->clear_deadline();
  co_return !connection_->incoming().empty();
}

Task<> HttpSession::wait_for_bytes() {
  const size_t had = connection_->incoming().size();
  while (connection_->incoming().size() <= had && !connection_->has_ended() && !connection_->is_late()) {
    co_await connection_->changed.wait();
  }
  if (connection_->incoming().size() > had) co_return;
  if (connection_->is_late()) throw HttpError(408, "the request did not come in time");
  throw HttpError(400, "the request ended too soon");
}

Task<> HttpSession::read_head(RequestParser& parser) {
  connection_->set_deadline(state_.options.header_time);
  for (;;) {
    connection_->take(parser.take(connection_->incoming()));
    if (parser.has_head()) break;
    co_await wait_for_bytes();
  }
  connection_->clear_deadline();
}

// What the head says; throws HttpError if that is enough to refuse the request.
void HttpSession::set_out(RequestParser& parser, HttpExchange& exchange) {
  HttpRequest& request = exchange.mutable_request();
  request = std::move(parser.request());
  exchange.is_http_10 = parser.is_http_10();
  const auto id = request.headers.find("x-request-id");
  request.id = id != request.headers.end() && is_sane_id(id->second) ? id->second : make_id("req_");
  request.client = address_;
}

std::shared_ptr<const Route> HttpSession::choose_route(HttpExchange& exchange) {
  HttpRequest& request = exchange.mutable_request();
  if (is_too_many_) exchange.keep_alive = false;
  if (is_too_many_) throw unavailable("too many connections at a time", 2);
  check_origin(exchange);
  RouteTable::Found found = state_.routes.find(request.method, request.path);
  pattern_ = found.pattern;
  if (request.method == "OPTIONS" && (!found.allowed.empty() || request.path == "*")) {
    auto route = std::make_shared<Route>();
    route->handle = [this, allowed = found.allowed](Exchange& to) { return preflight(to, allowed); };
    route->always = true;
    return route;
  }
  if (found.route) {
    check_key(request, *found.route);
    check_phase(*found.route);
    return found.route;
  }
  if (!found.allowed.empty()) {
    HttpError error(405, request.method + " is not what " + request.path + " answers to; that is " + found.allowed, "method_not_allowed");
    error.headers = {{"Allow", found.allowed}};
    throw error;
  }
  check_phase({});  // it may be known once the model is loaded
  throw HttpError(404, "there is nothing at " + request.path, "not_found");
}

// Browsers send pages' requests to wherever the page says, with the page's origin: only ours and those that are allowed may ask.
void HttpSession::check_origin(HttpExchange& exchange) {
  const auto& headers = exchange.request().headers;
  const auto origin = headers.find("origin");
  if (origin == headers.end()) return;
  const auto& allowed = state_.options.allow_origins;
  const auto is_listed = [&](const std::string& name) { return std::find(allowed.begin(), allowed.end(), name) != allowed.end(); };
  if (is_listed("*") || is_listed(origin->second)) {
    exchange.common = {{"Access-Control-Allow-Origin", is_listed("*") ? "*" : origin->second},
                       {"Access-Control-Expose-Headers", "x-request-id, retry-after"},
                       {"Vary", "Origin"}};
    return;
  }
  const auto host = headers.find("host");
  const size_t scheme = origin->second.find("://");
  const bool is_ours = host != headers.end() && scheme != std::string::npos && origin->second.substr(scheme + 3) == host->second;
  if (!is_ours) throw HttpError(403, "pages of " + origin->second + " may not ask this server; --allow-origin lets them", "origin_not_allowed");
}

void HttpSession::check_key(HttpRequest& request, const Route& route) {
  if (!state_.keys || !route.needs_key) return;
  const ApiKey* key = state_.keys->find(request.headers);
  if (key == nullptr) {
    HttpError error(401, "expected a valid API key, as in \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"", "invalid_api_key");
    error.headers = {{"WWW-Authenticate", "Bearer"}};
    throw error;
  }
  request.client = key->name;
  request.priority = key->priority;
  request.max_priority = key->max_priority;
}

void HttpSession::check_phase(const Route& route) const {
  if (route.always) return;
  if (state_.phase == Phase::Loading) throw unavailable("the model is being loaded", 5);
  if (state_.phase == Phase::Draining) throw unavailable("the server is about to end", 10);
}

Task<> HttpSession::read_body(RequestParser& parser, BodyAllowance& allowance) {
  allowance.grow_to(parser.body_bytes());
  if (parser.wants_continue() && !parser.is_complete() && connection_->incoming().empty()) {
    co_await connection_->write("HTTP/1.1 100 Continue\r\n\r\n");
  }
  connection_->set_deadline(state_.options.body_time);
  for (size_t since_deadline = 0; !parser.is_complete();) {
    const size_t count = parser.take(connection_->incoming());
    connection_->take(count);
    allowance.grow_to(parser.body_bytes());
    if (parser.is_complete()) break;
    if ((since_deadline += count) >= kBodyPiece) {
      since_deadline = 0;
      connection_->set_deadline(state_.options.body_time);
    }
    if (count > 0 && !connection_->incoming().empty()) continue;
    if (connection_->incoming_is_full()) throw HttpError(400, "not a valid HTTP request: a chunk's head is too long");
    co_await wait_for_bytes();
  }
  connection_->clear_deadline();
}

// Runs the handler until it is through, or the client leaves, or it is cancelled.
Task<std::optional<HttpError>> HttpSession::handle(std::shared_ptr<const Route> route, HttpExchange& exchange) {
  struct Running {
    HttpSession& session;
    explicit Running(HttpSession& its) : session(its) {
      ++session.state_.running;
      session.is_running_ = true;
      session.connection_->on_end = [&its] { its.cancel_handler(); };
    }
    ~Running() {
      --session.state_.running;
      session.is_running_ = false;
      session.connection_->on_end = nullptr;
    }
  };
  const auto executor = co_await asio::this_coro::executor;
  std::exception_ptr problem;
  {
    const Running running(*this);
    is_endless_ = route->endless;
    // Who has left already, or has sent all it ever will, gets what can be answered without waiting.
    if (connection_->has_ended()) {
      asio::post(executor, [self = shared_from_this()] { self->cancel_handler(); });
    }
    try {
      co_await route->handle(exchange);
    } catch (...) {
      problem = std::current_exception();
    }
  }
  co_await asio::this_coro::reset_cancellation_state();
  co_return what_to_tell(problem, exchange);
}

// After a handler has ended: what the client is to be told, if anything.
std::optional<HttpError> HttpSession::what_to_tell(std::exception_ptr problem, const HttpExchange& exchange) {
  const auto internal = [&](const std::string& what) {
    problem_ = what;
    return HttpError(500, "something went wrong in the server; its log has it under " + exchange.request().id);
  };
  try {
    if (problem) std::rethrow_exception(problem);
    if (exchange.has_ended()) return std::nullopt;
    return internal("the handler did not answer");
  } catch (const HttpError& error) {
    return error;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::Input) return HttpError(400, error.what());
    return internal(error.what());
  } catch (const std::exception& error) {
    if (cancelled_) return cancelled_;
    if (connection_->has_ended()) return std::nullopt;
    return internal(error.what());
  } catch (...) {
    return internal("something that is no exception was thrown");
  }
}

Task<> HttpSession::preflight(Exchange& exchange, std::string allowed) {
  Headers headers = {{"Allow", allowed}};
  const auto& asked = exchange.request().headers;
  if (asked.contains("origin") && asked.contains("access-control-request-method")) {
    headers.emplace_back("Access-Control-Allow-Methods", allowed);
    if (const auto names = asked.find("access-control-request-headers"); names != asked.end()) {
      headers.emplace_back("Access-Control-Allow-Headers", names->second);
    }
    headers.emplace_back("Access-Control-Max-Age", "600");
  }
  co_await exchange.answer(204, "", "", std::move(headers));
}

void HttpSession::record(const HttpExchange& exchange, Clock::time_point since) {
  const HttpRequest& request = exchange.request();
  RequestRecord record{.id = request.id,
                       .method = request.method,
                       .path = request.path,
                       .client = request.client.empty() ? address_ : request.client,
                       .status = exchange.has_ended() ? exchange.status() : 499,
                       .seconds = std::chrono::duration<double>(Clock::now() - since).count(),
                       .prompt_tokens = request.tokens->prompt,
                       .cached_tokens = request.tokens->cached,
                       .generated_tokens = request.tokens->generated,
                       .problem = problem_};
  if (!exchange.has_ended() && record.problem.empty()) {
    record.problem = connection_->reads_slowly() ? "the client did not read" : "the client left";
  }
  if (state_.options.log_prompts) record.body = request.body;
  state_.metrics.request_ended(pattern_.empty() ? "other" : pattern_, record.status, record.seconds);
  state_.log.request(record);
}

}  // namespace moiety::server
