#include "server/request_parser.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "server/http_text.h"

namespace moiety::server {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return text;
}

[[noreturn]] void refuse(const beast::error_code& error, size_t max_header, size_t max_body) {
  if (error == http::error::header_limit) throw HttpError(431, fmt::format("the request's head is longer than {} bytes", max_header));
  if (error == http::error::body_limit) throw HttpError(413, fmt::format("the request's body is longer than {} bytes", max_body));
  if (error == http::error::bad_version) throw HttpError(505, "expected HTTP/1.1");
  throw HttpError(400, fmt::format("not a valid HTTP request: {}", error.message()));
}

}  // namespace

struct RequestParser::Parser {
  http::request_parser<http::string_body> beast;
  size_t max_body = 0;
};

RequestParser::RequestParser(size_t max_header, size_t max_body) : parser_(std::make_unique<Parser>()), max_header_(max_header) {
  parser_->max_body = max_body;
  parser_->beast.header_limit(static_cast<uint32_t>(max_header));
  parser_->beast.body_limit(max_body);
}

RequestParser::~RequestParser() = default;

bool RequestParser::has_head() const { return parser_->beast.is_header_done(); }
bool RequestParser::is_complete() const { return parser_->beast.is_done(); }

size_t RequestParser::take(std::string_view bytes) {
  size_t taken = 0;
  while (taken < bytes.size() && !is_complete()) {
    const bool in_head = !has_head();
    beast::error_code error;
    const size_t count = parser_->beast.put(boost::asio::buffer(bytes.data() + taken, bytes.size() - taken), error);
    if (error && error != http::error::need_more) refuse(error, max_header_, parser_->max_body);
    taken += count;
    // Beast holds each part of the head to the limit; this is about the whole.
    if (in_head && (head_bytes_ += count) > max_header_) refuse(http::error::header_limit, max_header_, 0);
    if (in_head && has_head()) {
      read_head();
      break;  // whoever asked decides about the body
    }
    if (count == 0) break;
  }
  return taken;
}

void RequestParser::read_head() {
  const auto& message = parser_->beast.get();
  request_.method = std::string(message.method_string());
  for (const auto& field : message) {
    std::string& value = request_.headers[lower(std::string(field.name_string()))];
    if (!value.empty()) value += ", ";
    value += std::string(field.value());
  }
  if (!is_http_10() && message.count(http::field::host) != 1) throw HttpError(400, "expected one Host header");
  // Anything else than a plain "chunked" would be read otherwise by others on the way (RFC 9112, 6.1).
  if (const auto coding = request_.headers.find("transfer-encoding"); coding != request_.headers.end() && lower(coding->second) != "chunked") {
    throw HttpError(501, "expected a request's Transfer-Encoding to be chunked");
  }
  if (const auto coding = request_.headers.find("content-encoding"); coding != request_.headers.end() && lower(coding->second) != "identity") {
    throw HttpError(415, "expected a body without Content-Encoding");
  }
  const auto expect = request_.headers.find("expect");
  wants_continue_ = expect != request_.headers.end() && lower(expect->second) == "100-continue" && !is_http_10();
  set_target(request_, std::string_view(message.target().data(), message.target().size()));
}

bool RequestParser::keeps_alive() const { return parser_->beast.keep_alive(); }
bool RequestParser::is_http_10() const { return parser_->beast.get().version() < 11; }

size_t RequestParser::body_bytes() const {
  const auto announced = parser_->beast.content_length();
  return std::max<size_t>(announced ? static_cast<size_t>(*announced) : 0, parser_->beast.get().body().capacity());
}

void RequestParser::finish() { request_.body = std::move(parser_->beast.get().body()); }

}  // namespace moiety::server
