#include "server/http_text.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/json.h"

namespace moiety::server {
namespace {

struct Status {
  int number;
  const char *reason, *openai, *anthropic;  // the error's type in either protocol
};

constexpr Status kStatuses[] = {
    {200, "OK", "", ""},
    {204, "No Content", "", ""},
    {400, "Bad Request", "invalid_request_error", "invalid_request_error"},
    {401, "Unauthorized", "invalid_request_error", "authentication_error"},
    {403, "Forbidden", "invalid_request_error", "permission_error"},
    {404, "Not Found", "invalid_request_error", "not_found_error"},
    {405, "Method Not Allowed", "invalid_request_error", "invalid_request_error"},
    {408, "Request Timeout", "invalid_request_error", "invalid_request_error"},
    {413, "Content Too Large", "invalid_request_error", "request_too_large"},
    {415, "Unsupported Media Type", "invalid_request_error", "invalid_request_error"},
    {422, "Unprocessable Content", "invalid_request_error", "invalid_request_error"},
    {429, "Too Many Requests", "rate_limit_error", "rate_limit_error"},
    {431, "Request Header Fields Too Large", "invalid_request_error", "invalid_request_error"},
    {500, "Internal Server Error", "server_error", "api_error"},
    {501, "Not Implemented", "invalid_request_error", "invalid_request_error"},
    {503, "Service Unavailable", "server_error", "overloaded_error"},
    {505, "HTTP Version Not Supported", "invalid_request_error", "invalid_request_error"},
};

// Of those that aren't in the table: what the first digit says.
Status status_of(int number) {
  for (const Status& status : kStatuses) {
    if (status.number == number) return status;
  }
  if (number < 300) return {number, "OK", "", ""};
  if (number < 500) return {number, "Error", "invalid_request_error", "invalid_request_error"};
  return {number, "Error", "server_error", "api_error"};
}

bool has_controls(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool is_anthropic(std::string_view path) { return path.starts_with("/v1/messages"); }

}  // namespace

const char* reason_of(int status) { return status_of(status).reason; }

std::string head_of(int status, const Headers& headers) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_of(status));
  for (const auto& [name, value] : headers) {
    if (!has_controls(name) && !has_controls(value)) head += name + ": " + value + "\r\n";
  }
  return head + "\r\n";
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+' && plus_is_space) {
      c = ' ';
    } else if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = digit_of(text[i + 1]), low = digit_of(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '\0') return std::nullopt;
    decoded += c;
  }
  return decoded;
}

void set_target(HttpRequest& request, std::string_view target) {
  const auto decode = [&](std::string_view text, bool in_query) {
    auto decoded = percent_decode(text, in_query);
    if (!decoded) throw HttpError(400, "the request's path is not well formed");
    return *decoded;
  };
  if (const size_t scheme = target.find("://"); !target.starts_with('/') && scheme != target.npos) {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == target.npos ? "/" : target.substr(slash);
  }
  if (!target.starts_with('/') && target != "*") throw HttpError(400, "the request's path must begin with /");

  const size_t mark = std::min(target.find('?'), target.size());
  request.path = decode(target.substr(0, mark), false);
  std::string_view rest = target.substr(std::min(mark + 1, target.size()));
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view pair = rest.substr(0, end);
    const size_t equals = std::min(pair.find('='), pair.size());
    if (!pair.empty()) request.query[decode(pair.substr(0, equals), true)] = decode(pair.substr(std::min(equals + 1, pair.size())), true);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

std::string event_text(std::string_view data, std::string_view name) {
  std::string text;
  text.reserve(data.size() + name.size() + 24);
  if (!name.empty() && !has_controls(name)) (text += "event: ").append(name) += '\n';
  text += "data: ";
  for (size_t i = 0; i < data.size(); ++i) {
    if (data[i] == '\r' && i + 1 < data.size() && data[i + 1] == '\n') continue;
    if (data[i] == '\r' || data[i] == '\n') {
      text += "\ndata: ";
    } else {
      text += data[i];
    }
  }
  return text += "\n\n";
}

std::string error_body(std::string_view path, const HttpError& error) {
  const Status status = status_of(error.status);
  Json json;
  if (is_anthropic(path)) {
    json = {{"type", "error"}, {"error", {{"type", status.anthropic}, {"message", error.what()}}}};
  } else {
    const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
    json["error"] = {{"message", error.what()}, {"type", status.openai}, {"param", or_null(error.param)}, {"code", or_null(error.code)}};
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string error_event(std::string_view path, const HttpError& error) {
  return event_text(error_body(path, error), is_anthropic(path) ? "error" : "");
}

bool is_sane_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':';
  });
}

}  // namespace moiety::server
