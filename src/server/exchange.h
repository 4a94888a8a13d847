// One HTTP request and the way to answer it: what handlers of any protocol see of the network.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moiety::server {

template <class T = void>
using Task = boost::asio::awaitable<T>;

// What a request came to, for its line in the log. Whoever knows adds to it, on any thread (MeteredListener does).
struct TokenTally {
  std::atomic<uint64_t> prompt = 0, cached = 0, generated = 0;
};

struct HttpRequest {
  std::string method;  // "POST"
  std::string path;    // "/v1/chat/completions", decoded, without what follows a '?'
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string client;  // the API key's name, else the address: whose turn it is
  std::string id;      // of this request, for logs and the header x-request-id
  int priority = 0;      // of the API key; higher goes first
  int max_priority = 0;  // that the request may ask for
  std::shared_ptr<TokenTally> tokens = std::make_shared<TokenTally>();
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// Thrown by handlers: becomes an answer with this status, in the shape of the protocol that was spoken.
class HttpError : public std::runtime_error {
 public:
  HttpError(int status_, const std::string& message, std::string code_ = {}, std::string param_ = {})
      : std::runtime_error(message), status(status_), code(std::move(code_)), param(std::move(param_)) {}
  int status;
  std::string code, param;  // may be empty
  Headers headers;          // such as Retry-After
};

// (g++ 12 destroys lambdas and aggregates twice that are temporaries of an expression with co_await in it: name them first.)
// All tasks of one exchange run on its executor, one at a time. When the client leaves, the handler's task is cancelled where it
// waits: what it holds is destroyed, as by an exception.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  // The whole answer.
  virtual Task<> answer(int status, std::string_view content_type, std::string body, Headers headers = {}) = 0;
  // Or server-sent events: headers, then event by event, then the end.
  virtual Task<> begin_events(Headers headers = {}) = 0;
  virtual Task<> send_event(std::string_view data, std::string_view name = {}) = 0;
  virtual Task<> end_events() = 0;
  // Whether the answer has begun, so that no other can be given.
  virtual bool has_begun() const = 0;
};

using Handler = std::function<Task<>(Exchange&)>;

struct Route {
  std::string method, path;  // a path that ends in '*' takes all that begin like it and are no route of their own
  Handler handle;
  bool needs_key = true;  // if the server has API keys
  bool always = false;    // answered while the model loads and while the server drains, too
  bool endless = false;   // its answers end when the client leaves: a server that drains does not wait for them
};

}  // namespace moiety::server
