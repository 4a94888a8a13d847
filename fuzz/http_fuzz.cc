// A connection's bytes through the very code that serves: parser, limits, routes, answers.
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include "fuzz.h"
#include "server/http_session.h"

namespace {

namespace asio = boost::asio;
using namespace moiety;
using namespace moiety::server;

Task<> answer_all(Exchange& exchange) {
  if (exchange.request().query.contains("events")) {
    co_await exchange.begin_events();
    for (const auto& [name, value] : exchange.request().query) co_await exchange.send_event(value, name);
    co_await exchange.end_events();
  } else {
    co_await exchange.answer(200, "text/plain", exchange.request().body, {{"x-path", exchange.request().path}});
  }
}

void serve(std::string_view bytes) {
  Log log([](std::string_view) {});
  Metrics metrics;
  HttpOptions options;
  options.max_header = 1024;
  options.max_body = 2048;
  options.allow_origins = {"http://a"};
  options.linger_time = std::chrono::milliseconds(0);
  ServerState state{.options = options, .log = log, .metrics = metrics};
  state.phase = Phase::Ready;
  state.routes.add({{"POST", "/a", answer_all}, {"GET", "/b*", answer_all}});

  asio::io_context io(1);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return;
  auto session = std::make_shared<HttpSession>(
      state, io.get_executor(), plain_stream(Socket(io, asio::generic::stream_protocol(AF_UNIX, 0), ends[0])), "fuzz", false);
  asio::co_spawn(io, session->run(), asio::bind_cancellation_slot(session->slot(), [session](std::exception_ptr) {}));
  session.reset();  // its timers end with it

  // Pieces end at 0x01, so that the fuzzer chooses them. What was answered is read, so that nothing blocks.
  char answer[1 << 16];
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, std::min(bytes.find('\x01'), std::min<size_t>(bytes.size(), 16 << 10)));
    if (!piece.empty() && ::send(ends[1], piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) break;
    bytes.remove_prefix(std::min(bytes.size(), piece.size() + 1));
    io.poll();
    while (::recv(ends[1], answer, sizeof(answer), MSG_DONTWAIT) > 0) io.poll();
  }
  ::close(ends[1]);
  io.restart();
  io.run();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fuzz::refuse_or([&] { serve(fuzz::text_of(data, size)); });
}
