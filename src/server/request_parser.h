// Bytes of a connection -> an HttpRequest, in two halves: the head, after which it can be refused, then the body.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "server/exchange.h"

namespace moiety::server {

// HTTP/1.1 (RFC 9112) as Boost.Beast reads it. What is wrong is thrown as HttpError: 400, 413, 431, 501, 505.
class RequestParser {
 public:
  RequestParser(size_t max_header, size_t max_body);  // bytes
  ~RequestParser();

  // Takes as many of the bytes as it can and says how many; those it left must come again, with more behind them.
  size_t take(std::string_view bytes);

  bool has_head() const;
  bool is_complete() const;

  // From has_head() on:
  HttpRequest& request() { return request_; }
  bool wants_continue() const { return wants_continue_; }  // 100 (Continue), before it sends the body
  bool keeps_alive() const;
  bool is_http_10() const;
  // What the body takes in memory, or will as far as the head says.
  size_t body_bytes() const;
  // Moves the body into request(). After is_complete().
  void finish();

 private:
  void read_head();

  struct Parser;
  std::unique_ptr<Parser> parser_;
  size_t head_bytes_ = 0, max_header_;
  bool wants_continue_ = false;
  HttpRequest request_;
};

}  // namespace moiety::server
