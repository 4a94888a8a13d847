#include "server/page.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <span>

#include "server/page_bytes.h"

namespace moiety::server {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

// Takes what comes before the next `mark` off the front of `text`.
std::string_view next(std::string_view& text, char mark) {
  const size_t end = std::min(text.find(mark), text.size());
  const std::string_view piece = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return trimmed(piece);
}

bool is_word(std::string_view text, std::string_view word) {
  return std::ranges::equal(text, word, {}, [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
}

// "q=0" and "q=0.000" refuse what stands before them.
bool is_refusal(std::string_view parameter) {
  if (!parameter.starts_with("q=") && !parameter.starts_with("Q=")) return false;
  return parameter.substr(2).find_first_not_of("0.") == std::string_view::npos;
}

std::string digest(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned size = 0;
  EVP_Digest(bytes.data(), bytes.size(), hash.data(), &size, EVP_sha256(), nullptr);
  std::string text;
  for (const unsigned char byte : std::span(hash).first(std::min(size, 12u))) text += fmt::format("{:02x}", byte);
  return text;
}

std::string_view header(const HttpRequest& request, const char* name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? std::string_view() : std::string_view(found->second);
}

Task<> answer_page(Exchange& exchange) {
  static const std::string version = digest(page_html());  // no other page comes while the program runs
  const HttpRequest& request = exchange.request();
  const bool is_compressed = !page_html_gz().empty() && accepts_gzip(header(request, "accept-encoding"));
  const std::string tag = fmt::format("\"{}{}\"", version, is_compressed ? "-gzip" : "");

  Headers headers{
      {"ETag", tag},
      {"Cache-Control", "no-cache"},  // kept, but asked after: the next program may have another page
      {"Vary", "Accept-Encoding"},
      {"Content-Security-Policy", std::string(page_csp())},
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"Permissions-Policy", "camera=(), microphone=(), geolocation=()"},
  };
  if (header(request, "if-none-match").find(tag) != std::string_view::npos) {
    co_await exchange.answer(304, "", "", std::move(headers));
    co_return;
  }
  if (is_compressed) headers.emplace_back("Content-Encoding", "gzip");
  co_await exchange.answer(200, "text/html; charset=utf-8", std::string(is_compressed ? page_html_gz() : page_html()), std::move(headers));
}

}  // namespace

bool accepts_gzip(std::string_view accept_encoding) {
  bool is_any = false;
  while (!accept_encoding.empty()) {
    std::string_view coding = next(accept_encoding, ',');
    const std::string_view name = next(coding, ';');
    bool is_welcome = true;
    while (!coding.empty()) is_welcome = is_welcome && !is_refusal(next(coding, ';'));
    if (is_word(name, "gzip") || is_word(name, "x-gzip")) return is_welcome;
    if (name == "*") is_any = is_welcome;
  }
  return is_any;
}

std::vector<Route> page_routes() { return {{.method = "GET", .path = "/", .handle = answer_page, .needs_key = false, .always = true}}; }

}  // namespace moiety::server
