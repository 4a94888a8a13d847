// An exchange over HTTP/1.1: answers become bytes.
#pragma once

#include <string>

#include "server/connection.h"

namespace moiety::server {

class HttpExchange : public Exchange {
 public:
  explicit HttpExchange(Connection& connection) : connection_(connection) {}

  const HttpRequest& request() const override { return request_; }
  Task<> answer(int status, std::string_view content_type, std::string body, Headers headers = {}) override;
  Task<> begin_events(Headers headers = {}) override;
  Task<> send_event(std::string_view data, std::string_view name = {}) override;
  Task<> end_events() override;
  bool has_begun() const override { return status_ != 0; }

  // An answer that says what went wrong; an event if the answer has begun and has not ended. In the shape that the request's
  // path speaks.
  Task<> tell(HttpError error);

  bool has_ended() const { return has_ended_; }
  int status() const { return status_; }  // 0 before the answer

  // The session's to set, before there is an answer:
  HttpRequest& mutable_request() { return request_; }
  Headers common;          // headers of every answer
  bool keep_alive = true;  // whether the connection is, after it
  bool is_http_10 = false;

 private:
  std::string head(int status, Headers headers) const;
  Task<> send_piece(std::string bytes);

  Connection& connection_;
  HttpRequest request_;
  int status_ = 0;
  bool has_ended_ = false;
};

}  // namespace moiety::server
