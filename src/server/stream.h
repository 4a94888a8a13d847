// A connection's bytes, plain or through TLS, from whatever kind of socket.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/exchange.h"

namespace boost::asio::ssl {
class context;
}

namespace moiety::server {

using Socket = boost::asio::generic::stream_protocol::socket;

// One task may read while another writes. Reading and writing end with the stream: by its peer, a fault, or close().
class Stream {
 public:
  virtual ~Stream() = default;
  virtual Task<bool> handshake() = 0;  // whether it went well
  // 0 at the end.
  virtual Task<size_t> read_some(std::span<char> buffer) = 0;
  // All of them; throws boost::system::system_error.
  virtual Task<> write(std::string_view bytes) = 0;
  // Tells the peer that nothing more comes; what it sends can still be read.
  virtual Task<> finish() = 0;
  virtual void close() = 0;
};

std::unique_ptr<Stream> plain_stream(Socket socket);
std::unique_ptr<Stream> tls_stream(Socket socket, boost::asio::ssl::context& context);

// TLS 1.2 and later with a certificate (a chain, PEM) and its key (PEM). Throws Error(Input) naming the file that can't be used.
std::shared_ptr<boost::asio::ssl::context> tls_context(const std::string& certificate, const std::string& key);

}  // namespace moiety::server
