#include "server/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <array>

#include "base/error.h"
#include "base/json.h"

namespace moiety::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

// Lines of an event stream to the data of events (WHATWG HTML, 9.2).
class EventLines {
 public:
  explicit EventLines(const std::function<bool(std::string_view)>& on_event) : on_event_(on_event) {}

  // False once it is enough.
  bool take(std::string_view text) {
    pending_ += text;
    size_t begin = 0;
    for (size_t end; (end = pending_.find('\n', begin)) != pending_.npos; begin = end + 1) {
      std::string_view line(pending_.data() + begin, end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!take_line(line)) return false;
    }
    pending_.erase(0, begin);
    require(pending_.size() < kMost, "the server sent a line that has no end");
    return true;
  }

 private:
  static constexpr size_t kMost = 64 << 20;  // bytes

  bool take_line(std::string_view line) {
    if (line.empty()) {
      const std::string data = std::move(data_);
      data_.clear();
      return data.empty() || on_event_(data);
    }
    if (!line.starts_with("data:")) return true;
    line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
    if (!data_.empty()) data_ += '\n';
    data_ += line;
    return true;
  }

  const std::function<bool(std::string_view)>& on_event_;
  std::string pending_, data_;
};

// What an answer says that is no success.
std::string reason_in(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_object()) return json["error"].value("message", body);
  return body.substr(0, 500);
}

}  // namespace

HttpClient::HttpClient(const std::string& url, std::string key) : url_(url), key_(std::move(key)) {
  std::string_view rest = url;
  is_tls_ = rest.starts_with("https://");
  const bool is_http = is_tls_ || rest.starts_with("http://");
  rest.remove_prefix(is_http ? rest.find("//") + 2 : 0);
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view place = rest.substr(0, slash);
  base_ = rest.substr(slash);
  while (base_.ends_with('/')) base_.pop_back();
  if (base_.ends_with("/v1")) base_.resize(base_.size() - 3);
  const size_t colon = place.rfind(':');
  const bool has_port = colon != place.npos && place.find(']', colon) == place.npos;
  port_ = has_port ? std::string(place.substr(colon + 1)) : is_tls_ ? "443" : "80";
  host_ = has_port ? place.substr(0, colon) : place;
  if (host_.starts_with('[') && host_.ends_with(']')) host_ = host_.substr(1, host_.size() - 2);
  const bool is_number = !port_.empty() && port_.find_first_not_of("0123456789") == port_.npos;
  if (!is_http || host_.empty() || !is_number) fail(ErrorKind::Usage, "{}: expected the address of a server, such as http://127.0.0.1:8080", url);
}

template <class Stream>
void HttpClient::exchange(Stream& stream, std::string_view path, std::string body, const std::function<bool(std::string_view)>& on_event) const {
  http::request<http::string_body> request(http::verb::post, base_ + std::string(path), 11, std::move(body));
  request.set(http::field::host, host_);
  request.set(http::field::content_type, "application/json");
  request.set(http::field::connection, "close");
  if (!key_.empty()) request.set(http::field::authorization, "Bearer " + key_);
  request.prepare_payload();
  http::write(stream, request);

  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  http::read_header(stream, buffer, parser);
  const bool is_good = parser.get().result() == http::status::ok;
  std::string refusal;
  EventLines lines(on_event);
  std::array<char, 16384> part;
  while (!parser.is_done()) {
    parser.get().body().data = part.data();
    parser.get().body().size = part.size();
    boost::system::error_code error;
    http::read_some(stream, buffer, parser, error);
    if (error && error != http::error::need_buffer) throw boost::system::system_error(error);
    const std::string_view text(part.data(), part.size() - parser.get().body().size);
    if (is_good && !lines.take(text)) return;
    if (!is_good && refusal.size() < (1 << 20)) refusal += text;
  }
  if (!is_good) fail(ErrorKind::Input, "{}: status {}: {}", url_, parser.get().result_int(), reason_in(refusal));
}

void HttpClient::post_for_events(std::string_view path, std::string body, const std::function<bool(std::string_view)>& on_event) const {
  try {
    asio::io_context context;
    asio::ip::tcp::resolver resolver(context);
    asio::ip::tcp::socket socket(context);
    asio::connect(socket, resolver.resolve(host_, port_));
    socket.set_option(asio::ip::tcp::no_delay(true));
    if (!is_tls_) return exchange(socket, path, std::move(body), on_event);
    asio::ssl::context tls(asio::ssl::context::tls_client);
    tls.set_default_verify_paths();
    asio::ssl::stream<asio::ip::tcp::socket> stream(std::move(socket), tls);
    stream.set_verify_mode(asio::ssl::verify_peer);
    stream.set_verify_callback(asio::ssl::host_name_verification(host_));
    SSL_set_tlsext_host_name(stream.native_handle(), host_.c_str());
    stream.handshake(asio::ssl::stream_base::client);
    exchange(stream, path, std::move(body), on_event);
  } catch (const boost::system::system_error& error) {
    fail(ErrorKind::Io, "{}: {}", url_, error.code().message());
  }
}

}  // namespace moiety::server
