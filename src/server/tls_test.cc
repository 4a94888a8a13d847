#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "server/test_server.h"

namespace moiety::server {
namespace {

namespace asio = boost::asio;

// A certificate that signs itself, made by the openssl command.
struct Certificate {
  Certificate() {
    fs::create_directories(folder);
    make("localhost", "ec -pkeyopt ec_paramgen_curve:prime256v1", "");
  }
  // NAME.cert.pem and NAME.key.pem, or without a name the files that are served.
  void make(const std::string& subject, const std::string& kind, const std::string& name) const {
    const std::string command = fmt::format("openssl req -x509 -newkey {} -nodes -days 2 -subj /CN={} -keyout {}/{}key.pem -out {}/{}cert.pem 2> {}/log", kind,
                                            subject, folder.string(), name, folder.string(), name, folder.string());
    EXPECT_EQ(std::system(command.c_str()), 0);
  }
  void take(const std::string& from, const std::string& to) const { fs::rename(folder / from, folder / to); }
  ~Certificate() { fs::remove_all(folder); }
  HttpOptions options() const {
    HttpOptions options;
    options.certificate = folder / "cert.pem";
    options.key = folder / "key.pem";
    options.header_time = std::chrono::milliseconds(200);
    options.linger_time = std::chrono::milliseconds(200);
    return options;
  }
  const fs::path folder = fs::temp_directory_path() / fmt::format("moiety_tls_{}", ::getpid());
};

std::string ask(uint16_t port, const std::string& text, int newest_version = TLS1_3_VERSION) {
  asio::io_context io;
  asio::ssl::context context(asio::ssl::context::tls_client);
  SSL_CTX_set_max_proto_version(context.native_handle(), newest_version);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_VERSION);
  asio::ssl::stream<asio::ip::tcp::socket> stream(io, context);
  stream.lowest_layer().connect({asio::ip::address_v4::loopback(), port});
  boost::system::error_code error;
  stream.handshake(asio::ssl::stream_base::client, error);
  if (error) return "no handshake";
  asio::write(stream, asio::buffer(text), error);
  std::string answer;
  asio::read(stream, asio::dynamic_buffer(answer), error);
  return answer;
}

TEST(Tls, AnswersThroughIt) {
  const Certificate certificate;
  TestServer server(certificate.options());
  const std::string body(200000, 'x');
  const std::string answer =
      ask(server.port(), "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + body);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK")) << answer.substr(0, 100);
  EXPECT_TRUE(answer.ends_with(body));
  EXPECT_TRUE(ask(server.port(), "GET /events HTTP/1.0\r\n\r\n").ends_with("data: 2\n\n"));
}

TEST(Tls, NothingBelowOneTwo) {
  const Certificate certificate;
  TestServer server(certificate.options());
  EXPECT_EQ(ask(server.port(), "", TLS1_1_VERSION), "no handshake");
  EXPECT_TRUE(ask(server.port(), "GET /health HTTP/1.0\r\n\r\n", TLS1_2_VERSION).starts_with("HTTP/1.1 200"));
}

TEST(Tls, WhoSpeaksPlainlyOrNothingOrVanishesHarmsNobody) {
  const Certificate certificate;
  TestServer server(certificate.options());
  TestClient plain = server.client(), silent = server.client(), gone = server.client();
  plain.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  plain.read_to_end();
  EXPECT_EQ(silent.read_to_end(), "");
  gone.send("\x16\x03\x01");
  gone.vanish();
  EXPECT_TRUE(ask(server.port(), "GET /health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200"));
}

TEST(Tls, AVanishedClientCancelsItsHandler) {
  const Certificate certificate;
  TestServer server(certificate.options());
  {
    asio::io_context io;
    asio::ssl::context context(asio::ssl::context::tls_client);
    asio::ssl::stream<asio::ip::tcp::socket> stream(io, context);
    stream.lowest_layer().connect({asio::ip::address_v4::loopback(), server.port()});
    stream.handshake(asio::ssl::stream_base::client);
    asio::write(stream, asio::buffer(std::string("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")));
    ASSERT_TRUE(server.begun.reaches(1));
  }
  EXPECT_TRUE(server.gone.reaches(1));
}

// Whose certificate a new connection is shown.
std::string shown_subject(uint16_t port) {
  asio::io_context io;
  asio::ssl::context context(asio::ssl::context::tls_client);
  asio::ssl::stream<asio::ip::tcp::socket> stream(io, context);
  stream.lowest_layer().connect({asio::ip::address_v4::loopback(), port});
  stream.handshake(asio::ssl::stream_base::client);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(stream.native_handle()), X509_free);
  char name[100] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name, sizeof(name));
  return name;
}

TEST(Tls, ARenewedCertificateIsShownWithoutARestart) {
  const Certificate certificate;
  certificate.make("renewed", "rsa:2048", "new.");
  TestServer server(certificate.options());
  const auto warnings = [&] {
    const std::string log = server.logged();
    size_t count = 0;
    for (size_t at = 0; (at = log.find("the old certificate stays", at)) != log.npos; ++at) ++count;
    return count;
  };
  EXPECT_EQ(shown_subject(server.port()), "localhost");
  certificate.take("new.cert.pem", "cert.pem");  // and its key not yet
  EXPECT_EQ(shown_subject(server.port()), "localhost");
  EXPECT_EQ(shown_subject(server.port()), "localhost");
  EXPECT_EQ(warnings(), 1u);
  certificate.take("new.key.pem", "key.pem");
  EXPECT_EQ(shown_subject(server.port()), "renewed");
  write_file(certificate.folder / "cert.pem", "nothing");
  EXPECT_EQ(shown_subject(server.port()), "renewed");
  fs::remove(certificate.folder / "cert.pem");
  EXPECT_EQ(shown_subject(server.port()), "renewed");
  EXPECT_EQ(warnings(), 3u);
}

TEST(Tls, FilesThatCantBeUsedAreNamed) {
  const Certificate certificate;
  HttpOptions options = certificate.options();
  options.key = certificate.folder / "log";
  EXPECT_THROW(TestServer{options}, Error);
  options.key.clear();
  EXPECT_THROW(TestServer{options}, Error);
}

}  // namespace
}  // namespace moiety::server
