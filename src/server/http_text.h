// The texts of HTTP: heads of answers, targets of requests, server-sent events, and errors in the shape that a client expects.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/exchange.h"

namespace moiety::server {

const char* reason_of(int status);  // "Not Found"

// "HTTP/1.1 200 OK" and headers, with the empty line that ends them. Headers with control characters in them are left out.
std::string head_of(int status, const Headers& headers);

// "%2F" and, if `plus_is_space`, "+" -> characters; nothing if it isn't well formed or has a NUL in it.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

// Splits "/path?name=value&…", or the same behind "http://host", into a request's path and query. Throws HttpError(400).
void set_target(HttpRequest& request, std::string_view target);

// One server-sent event (WHATWG HTML, 9.2): line breaks in the data begin another "data:" line.
std::string event_text(std::string_view data, std::string_view name);

// The JSON of an error in the words of the protocol that lives at `path`: Anthropic's below /v1/messages, OpenAI's elsewhere.
std::string error_body(std::string_view path, const HttpError& error);
// The same as an event of a stream.
std::string error_event(std::string_view path, const HttpError& error);

// Whether a client's name for its request can be taken over: 1 to 128 letters, digits, and -_.:
bool is_sane_id(std::string_view id);

}  // namespace moiety::server
