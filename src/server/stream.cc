#include "server/stream.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/error.h"

namespace moiety::server {
namespace {

namespace asio = boost::asio;
constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);  // errors as values

class PlainStream : public Stream {
 public:
  explicit PlainStream(Socket socket) : socket_(std::move(socket)) {}

  Task<bool> handshake() override { co_return true; }
  Task<size_t> read_some(std::span<char> buffer) override {
    const auto [error, count] = co_await socket_.async_read_some(asio::buffer(buffer.data(), buffer.size()), kQuietly);
    co_return error ? 0 : count;
  }
  Task<> write(std::string_view bytes) override {
    co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()), asio::use_awaitable);
  }
  Task<> finish() override {
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    co_return;
  }
  void close() override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  Socket socket_;
};

class TlsStream : public Stream {
 public:
  TlsStream(Socket socket, asio::ssl::context& context) : stream_(std::move(socket), context) {}

  Task<bool> handshake() override {
    const auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kQuietly);
    co_return !error;
  }
  Task<size_t> read_some(std::span<char> buffer) override {
    const auto [error, count] = co_await stream_.async_read_some(asio::buffer(buffer.data(), buffer.size()), kQuietly);
    co_return error ? 0 : count;
  }
  Task<> write(std::string_view bytes) override {
    co_await asio::async_write(stream_, asio::buffer(bytes.data(), bytes.size()), asio::use_awaitable);
  }
  Task<> finish() override {
    co_await stream_.async_shutdown(kQuietly);
    boost::system::error_code ignored;
    stream_.next_layer().shutdown(Socket::shutdown_send, ignored);
  }
  void close() override {
    boost::system::error_code ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  asio::ssl::stream<Socket> stream_;
};

}  // namespace

std::unique_ptr<Stream> plain_stream(Socket socket) { return std::make_unique<PlainStream>(std::move(socket)); }

std::unique_ptr<Stream> tls_stream(Socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsStream>(std::move(socket), context);
}

std::shared_ptr<asio::ssl::context> tls_context(const std::string& certificate, const std::string& key) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::no_sslv2 | asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                       asio::ssl::context::no_tlsv1_1 | asio::ssl::context::no_compression | SSL_OP_NO_RENEGOTIATION |
                       SSL_OP_CIPHER_SERVER_PREFERENCE);
  boost::system::error_code error;
  context->use_certificate_chain_file(certificate, error);
  require(!error, "{}: expected a certificate in PEM: {}", certificate, error.message());
  context->use_private_key_file(key, asio::ssl::context::pem, error);
  require(!error, "{}: expected the key of {} in PEM: {}", key, certificate, error.message());
  require(SSL_CTX_check_private_key(context->native_handle()) == 1, "{}: expected the key of {}, found another's", key, certificate);
  return context;
}

}  // namespace moiety::server
