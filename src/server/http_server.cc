#include "server/http_server.h"

#include <netdb.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "server/http_session.h"
#include "server/tls_files.h"

namespace moiety::server {
namespace asio = boost::asio;

namespace {

using Tcp = asio::ip::tcp;
using Local = asio::local::stream_protocol;
constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
// Connections beyond those that are allowed which are told so; beyond these they are closed.
constexpr size_t kMostRefusals = 64;

std::string text_of(const Tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? "[" + address + "]" : address;
}

std::string client_of(const Tcp::socket& socket) {
  boost::system::error_code gone;
  const Tcp::endpoint peer = socket.remote_endpoint(gone);
  return gone ? "gone" : peer.address().to_string();
}
std::string client_of(const Local::socket&) { return "local"; }

void prepare(Tcp::socket& socket, size_t send_buffer) {
  boost::system::error_code ignored;
  socket.set_option(Tcp::no_delay(true), ignored);
  if (send_buffer > 0) socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(send_buffer)), ignored);
}
void prepare(Local::socket& socket, size_t send_buffer) {
  boost::system::error_code ignored;
  if (send_buffer > 0) socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(send_buffer)), ignored);
}

Tcp::acceptor listen_tcp(asio::io_context& io, const HttpOptions& options) {
  const std::string where = fmt::format("{}:{}", options.host, options.port);
  boost::system::error_code error;
  const auto found = Tcp::resolver(io).resolve(options.host, std::to_string(options.port), Tcp::resolver::passive, error);
  if (error || found.empty()) fail(ErrorKind::Io, "cannot listen on {}: {}", where, error.message());
  const Tcp::endpoint endpoint = found.begin()->endpoint();
  Tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) fail(ErrorKind::Io, "cannot listen on {}: {}; --port 0 takes one that is free", where, error.message());
  return acceptor;
}

// A socket that is left from a server which has ended is in nobody's way; one that somebody listens on stays.
void remove_stale(asio::io_context& io, const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return;
  boost::system::error_code error;
  Local::socket(io).connect(Local::endpoint(path), error);
  if (!S_ISSOCK(status.st_mode) || error != asio::error::connection_refused) {
    fail(ErrorKind::Io, "cannot listen on {}: {}", path, S_ISSOCK(status.st_mode) ? "another program does" : "it is no socket");
  }
  fs::remove(path);
}

Local::acceptor listen_local(asio::io_context& io, const std::string& path) {
  require(path.size() < sizeof(sockaddr_un{}.sun_path), "{}: the path of a socket has less than {} bytes", path, sizeof(sockaddr_un{}.sun_path));
  remove_stale(io, path);
  boost::system::error_code error;
  Local::acceptor acceptor(io);
  acceptor.open(Local(), error);
  if (!error) acceptor.bind(Local::endpoint(path), error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) fail(ErrorKind::Io, "cannot listen on {}: {}", path, error.message());
  return acceptor;
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpOptions options, std::vector<Route> routes, Log& log, Metrics& metrics)
      : state_{.options = std::move(options), .log = log, .metrics = metrics}, io_(1), signals_(io_) {
    const HttpOptions& o = state_.options;
    const auto warn = [&log](const std::string& message) { log.warn(message); };
    require(o.certificate.empty() == o.key.empty(), "TLS needs a certificate and its key, found only one of them");
    if (!o.certificate.empty()) tls_.emplace(o.certificate, o.key, warn);
    if (!o.keys.empty()) state_.keys.emplace(o.keys, warn);
    state_.routes.add(std::move(routes));
    listen();
    if (o.handle_signals) wait_for_signal();
    thread_ = std::thread([this] { io_.run(); });
  }

  ~Impl() {
    on_end({});
    stop();
    wait();
    if (!state_.options.unix_socket.empty()) {
      std::error_code ignored;
      fs::remove(state_.options.unix_socket, ignored);
    }
  }

  const std::string& address() const { return address_; }
  uint16_t port() const { return port_; }
  Phase phase() const { return state_.phase; }
  size_t connections() const { return connections_; }
  size_t running() const { return state_.running; }

  void add_routes(std::vector<Route> routes) {
    asio::post(io_, [this, routes = std::move(routes)]() mutable { state_.routes.add(std::move(routes)); });
  }
  void set_ready() {
    // In the order of add_routes().
    asio::post(io_, [this] {
      if (state_.phase == Phase::Loading) state_.phase = Phase::Ready;
    });
  }
  void drain() {
    asio::post(io_, [this] { begin_drain(); });
  }
  void stop() {
    asio::post(io_, [this] { end(); });
  }
  bool wait() {
    const std::lock_guard lock(join_);
    if (thread_.joinable()) thread_.join();
    return is_drained_;
  }
  void on_drain(std::function<void()> act) {
    asio::post(io_, [this, act = std::move(act)]() mutable { on_drain_ = std::move(act); });
  }
  void on_end(std::function<void()> act) {
    asio::post(io_, [this, act = std::move(act)]() mutable { on_end_ = std::move(act); });
  }

 private:
  void listen() {
    const char* scheme = tls_ ? "https" : "http";
    if (!state_.options.unix_socket.empty()) {
      local_.emplace(listen_local(io_, state_.options.unix_socket));
      address_ = "unix:" + state_.options.unix_socket;
      asio::co_spawn(io_, accept(*local_), asio::detached);
    } else {
      tcp_.emplace(listen_tcp(io_, state_.options));
      port_ = tcp_->local_endpoint().port();
      address_ = fmt::format("{}://{}:{}", scheme, text_of(tcp_->local_endpoint()), port_);
      asio::co_spawn(io_, accept(*tcp_), asio::detached);
    }
  }

  template <class Acceptor>
  Task<> accept(Acceptor& acceptor) {
    asio::steady_timer pause(io_);
    while (acceptor.is_open()) {
      auto [error, socket] = co_await acceptor.async_accept(kQuietly);
      if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) break;
      if (error) {  // such as too many open files: it will get better, or not
        pause.expires_after(std::chrono::milliseconds(100));
        co_await pause.async_wait(kQuietly);
        continue;
      }
      const size_t most = state_.options.max_connections;
      if (state_.sessions.size() >= most + kMostRefusals) continue;  // and the socket is closed
      prepare(socket, state_.options.send_buffer);
      const std::string client = client_of(socket);
      serve(Socket(std::move(socket)), client, state_.sessions.size() >= most);
    }
  }

  void serve(Socket socket, const std::string& client, bool is_too_many) {
    auto stream = tls_ ? tls_stream(std::move(socket), tls_->context()) : plain_stream(std::move(socket));
    auto session = std::make_shared<HttpSession>(state_, io_.get_executor(), std::move(stream), client, is_too_many);
    const auto when_done = [this, session](std::exception_ptr) mutable {
      session.reset();
      connections_ = state_.sessions.size();
      progress_.notify();
    };
    asio::co_spawn(io_, [&session = *session] { return session.run(); }, asio::bind_cancellation_slot(session->slot(), when_done));
    connections_ = state_.sessions.size();
  }

  void wait_for_signal() {
    signals_.add(SIGTERM);
    signals_.add(SIGINT);
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (error) return;
      begin_drain();
      signals_.async_wait([this](const boost::system::error_code& again, int) {
        if (!again) end();
      });
    });
  }

  void begin_drain() {
    if (state_.phase == Phase::Draining) return;
    state_.phase = Phase::Draining;
    if (on_drain_) on_drain_();
    if (state_.running > 0) state_.log.note(fmt::format("no more requests are taken; {} still run", state_.running.load()));
    asio::co_spawn(io_, drain_all(), asio::detached);
  }

  // Idle connections end, those with a request when it is answered; when the time is over, or all are through, the server ends.
  // Who comes meanwhile is told so and not waited for.
  Task<> drain_all() {
    each_session([](HttpSession& session) { session.drain(); });
    co_await none_is_left(state_.options.drain_time, &HttpSession::is_draining);
    HttpError reason(503, "the server ended before this request was through", "server_shutdown");
    reason.headers = {{"Retry-After", "10"}};
    each_session([&](HttpSession& session) { session.cancel(reason); });
    co_await none_is_left(state_.options.linger_time, &HttpSession::is_draining);
    is_drained_ = true;
    end();
  }

  void end() {
    if (std::exchange(is_ending_, true)) return;
    state_.phase = Phase::Draining;
    if (const auto act = std::exchange(on_end_, nullptr)) act();
    asio::co_spawn(io_, end_all(), asio::detached);
  }

  // Handlers end where they wait; one that does not is left where it is.
  Task<> end_all() {
    boost::system::error_code ignored;
    if (tcp_) tcp_->close(ignored);
    if (local_) local_->close(ignored);
    each_session([](HttpSession& session) { session.cut_off(); });
    co_await none_is_left(state_.options.linger_time, nullptr);
    io_.stop();
  }

  template <class Act>
  void each_session(Act act) {
    const std::set<HttpSession*> now = state_.sessions;
    for (HttpSession* session : now) act(*session);
  }

  // Of the sessions of a kind, or of all; or the time is over.
  Task<> none_is_left(HttpOptions::Time time, bool (HttpSession::*kind)() const) {
    asio::steady_timer clock(io_, time);
    const auto is_over = std::make_shared<bool>(false);
    clock.async_wait([this, is_over](const boost::system::error_code& error) {
      *is_over = !error;
      progress_.notify();
    });
    const auto is_left = [&](const HttpSession* session) { return kind == nullptr || (session->*kind)(); };
    while (std::any_of(state_.sessions.begin(), state_.sessions.end(), is_left) && !*is_over) co_await progress_.wait();
  }

  // io_ comes after what its tasks use: it destroys them.
  ServerState state_;
  std::optional<TlsFiles> tls_;
  std::function<void()> on_drain_, on_end_;
  std::atomic<size_t> connections_ = 0;
  asio::io_context io_;
  asio::signal_set signals_;
  Event progress_{io_.get_executor()};
  std::optional<Tcp::acceptor> tcp_;
  std::optional<Local::acceptor> local_;
  std::string address_;
  uint16_t port_ = 0;
  bool is_ending_ = false, is_drained_ = false;
  std::mutex join_;
  std::thread thread_;
};

HttpServer::HttpServer(HttpOptions options, std::vector<Route> routes, Log& log, Metrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(routes), log, metrics)) {}
HttpServer::~HttpServer() = default;
std::string HttpServer::address() const { return impl_->address(); }
uint16_t HttpServer::port() const { return impl_->port(); }
void HttpServer::add_routes(std::vector<Route> routes) { impl_->add_routes(std::move(routes)); }
void HttpServer::set_ready() { impl_->set_ready(); }
Phase HttpServer::phase() const { return impl_->phase(); }
size_t HttpServer::connections() const { return impl_->connections(); }
size_t HttpServer::running() const { return impl_->running(); }
void HttpServer::drain() { impl_->drain(); }
void HttpServer::stop() { impl_->stop(); }
bool HttpServer::wait() { return impl_->wait(); }
void HttpServer::on_drain(std::function<void()> act) { impl_->on_drain(std::move(act)); }
void HttpServer::on_end(std::function<void()> act) { impl_->on_end(std::move(act)); }

}  // namespace moiety::server
