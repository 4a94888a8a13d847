#include "server/http_exchange.h"

#include <fmt/core.h>

#include <cassert>

#include "server/http_text.h"

namespace moiety::server {

std::string HttpExchange::head(int status, Headers headers) const {
  headers.insert(headers.end(), common.begin(), common.end());
  if (!request_.id.empty()) headers.emplace_back("x-request-id", request_.id);
  if (!keep_alive) headers.emplace_back("Connection", "close");
  if (keep_alive && is_http_10) headers.emplace_back("Connection", "keep-alive");
  return head_of(status, headers);
}

Task<> HttpExchange::answer(int status, std::string_view content_type, std::string body, Headers headers) {
  assert(!has_begun());
  status_ = status;
  if (!content_type.empty()) headers.emplace_back("Content-Type", content_type);
  if (status != 204) headers.emplace_back("Content-Length", std::to_string(body.size()));
  std::string bytes = head(status, std::move(headers));
  if (request_.method != "HEAD" && status != 204) bytes += body;
  co_await connection_.write(bytes);
  has_ended_ = true;
}

Task<> HttpExchange::begin_events(Headers headers) {
  assert(!has_begun());
  status_ = 200;
  headers.emplace_back("Content-Type", "text/event-stream; charset=utf-8");
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");  // nginx passes events on at once
  // HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
  if (is_http_10) {
    keep_alive = false;
  } else {
    headers.emplace_back("Transfer-Encoding", "chunked");
  }
  co_await connection_.write(head(200, std::move(headers)));
}

Task<> HttpExchange::send_event(std::string_view data, std::string_view name) {
  assert(has_begun() && !has_ended_);
  co_await send_piece(event_text(data, name));
}

Task<> HttpExchange::send_piece(std::string bytes) {
  if (request_.method == "HEAD") co_return;
  if (!is_http_10) bytes = fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
  co_await connection_.write(bytes);
}

Task<> HttpExchange::end_events() {
  assert(has_begun() && !has_ended_);
  if (!is_http_10 && request_.method != "HEAD") co_await connection_.write("0\r\n\r\n");
  has_ended_ = true;
}

Task<> HttpExchange::tell(HttpError error) {
  if (!has_begun()) {
    co_await answer(error.status, "application/json", error_body(request_.path, error), error.headers);
  } else if (!has_ended_ && connection_.is_intact()) {
    keep_alive = false;
    co_await send_piece(error_event(request_.path, error));
    co_await end_events();
  }
}

}  // namespace moiety::server
