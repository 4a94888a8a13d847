// One HTTP request and the way to answer it: what handlers of any protocol see of the network.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moiety::server {

template <class T = void>
using Task = boost::asio::awaitable<T>;

struct HttpRequest {
  std::string method;  // "POST"
  std::string path;    // "/v1/chat/completions", decoded, without what follows a '?'
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string client;  // the API key's name, else the address: whose turn it is
  std::string id;      // of this request, for logs and the header x-request-id
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// Thrown by handlers: becomes an answer with this status, in the shape of the protocol that was spoken.
class HttpError : public std::runtime_error {
 public:
  HttpError(int status, const std::string& message, std::string code_ = {}, std::string param_ = {})
      : std::runtime_error(message), status(status), code(std::move(code_)), param(std::move(param_)) {}
  int status;
  std::string code, param;  // may be empty
  Headers headers;          // such as Retry-After
};

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
  std::string method, path;
  Handler handle;
  bool needs_key = true;  // if the server has API keys
};

}  // namespace moiety::server
