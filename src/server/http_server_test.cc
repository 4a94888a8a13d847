#include "server/http_server.h"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "server/test_server.h"

namespace moiety::server {
namespace {

TEST(HttpServer, AnswersAndKeepsTheConnection) {
  TestServer server;
  TestClient client = server.client();
  for (int i = 0; i < 3; ++i) {
    const auto answer = client.post("/echo", "again and again");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "again and again");
  }
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST(HttpServer, ASilentClientThatLeavesCancelsItsHandler) {
  TestServer server;
  TestClient client = server.client();
  client.send("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  ASSERT_TRUE(server.begun.reaches(1));
  EXPECT_EQ(server.gone.count(), 0);
  client.leave();
  EXPECT_TRUE(server.gone.reaches(1));
}

TEST(HttpServer, AClientThatVanishesFromAStreamCancelsItsHandler) {
  TestServer server;
  TestClient client = server.client();
  client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_FALSE(client.read_to("data: 5").empty());
  client.vanish();
  EXPECT_TRUE(server.gone.reaches(1));
  EXPECT_EQ(server.client().get("/health").status, 200);
  EXPECT_NE(server.logged().find("\"status\":499"), std::string::npos);
}

TEST(HttpServer, WhoSendsAllItEverWillIsAnsweredIfThatTakesNoWaiting) {
  TestServer server;
  TestClient client = server.client();
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
  client.half_close();
  EXPECT_EQ(client.read_answer().body, "ab");
}

TEST(HttpServer, EventsAreChunksAndEnd) {
  TestServer server;
  TestClient client = server.client();
  const auto answer = client.get("/events");
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.has("Content-Type: text/event-stream"));
  EXPECT_EQ(answer.body, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
  EXPECT_EQ(client.post("/echo", "x").body, "x");
}

TEST(HttpServer, PipelinedRequestsAreAnsweredInTheirOrder) {
  TestServer server;
  TestClient client = server.client();
  std::string requests;
  for (int i = 0; i < 200; ++i) requests += fmt::format("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{}\r\n", 100 + i);
  client.send(requests);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(client.read_answer().body, std::to_string(100 + i));
}

TEST(HttpServer, ReadsChunkedBodiesAndContinues) {
  TestServer server;
  TestClient client = server.client();
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_to("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client.ask("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n").body, "abcde");
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST(HttpServer, HeadOptionsAndUnknownPathsAndMethods) {
  TestServer server;
  TestClient client = server.client();
  client.send("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto head = client.read_answer(false);
  EXPECT_EQ(head.status, 200);
  EXPECT_TRUE(head.has("Content-Length: 15"));
  const auto options = client.ask("OPTIONS /echo HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(options.status, 204);
  EXPECT_TRUE(options.has("Allow: POST, OPTIONS"));
  EXPECT_FALSE(options.has("Access-Control"));
  EXPECT_EQ(client.get("/nothing").status, 404);
  const auto wrong = server.client().get("/echo");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_TRUE(wrong.has("Allow: POST, OPTIONS"));
}

TEST(HttpServer, ErrorsSpeakTheProtocolOfTheirPath) {
  std::vector<Route> routes = {
      {"GET", "/bad", [](Exchange&) -> Task<> { fail(ErrorKind::Input, "temperature: too hot"); co_return; }},
      {"GET", "/broken", [](Exchange&) -> Task<> { throw std::runtime_error("secret"); co_return; }},
      {"GET", "/late", [](Exchange& e) -> Task<> {
         co_await e.begin_events();
         co_await e.send_event("1");
         throw HttpError(500, "the engine stopped");
       }},
      {"GET", "/mute", [](Exchange&) -> Task<> { co_return; }},
  };
  TestServer server({}, std::move(routes));
  const auto bad = server.client().get("/bad");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(parse_json(bad.body, "").at("error"),
            Json({{"message", "temperature: too hot"}, {"type", "invalid_request_error"}, {"param", nullptr}, {"code", nullptr}}));
  const auto broken = server.client().get("/broken", "x-request-id: mine-1\r\n");
  EXPECT_EQ(broken.status, 500);
  EXPECT_EQ(broken.body.find("secret"), std::string::npos);
  EXPECT_NE(broken.body.find("mine-1"), std::string::npos);
  EXPECT_TRUE(broken.has("x-request-id: mine-1"));
  EXPECT_EQ(server.client().get("/mute").status, 500);
  const auto anthropic = server.client().post("/v1/messages", "{}");
  EXPECT_EQ(anthropic.status, 422);
  EXPECT_EQ(parse_json(anthropic.body, ""), Json({{"type", "error"}, {"error", {{"type", "invalid_request_error"}, {"message", "no"}}}}));
  TestClient late = server.client();
  const auto events = late.get("/late");
  EXPECT_TRUE(events.body.starts_with("data: 1\n\ndata: {\"error\":")) << events.body;
  EXPECT_EQ(late.read_to_end(), "");
}

TEST(HttpServer, PagesOfOthersMayNotAskUnlessTheyAreAllowed) {
  HttpOptions options;
  options.allow_origins = {"https://good.example"};
  TestServer server(options);
  EXPECT_EQ(server.client().get("/health", "Origin: https://evil.example\r\n").status, 403);
  EXPECT_EQ(server.client().get("/health", "Origin: http://x\r\n").status, 200);
  const auto allowed = server.client().get("/health", "Origin: https://good.example\r\n");
  EXPECT_EQ(allowed.status, 200);
  EXPECT_TRUE(allowed.has("Access-Control-Allow-Origin: https://good.example"));
}

TEST(HttpServer, UntilItIsReadyItSaysSo) {
  Metrics metrics;
  Log log([](std::string_view) {});
  HttpOptions options;
  options.port = 0;
  HttpServer server(options, {}, log, metrics);
  server.add_routes(operation_routes(server, metrics));
  TestClient client(server.port());
  EXPECT_EQ(client.get("/health/live").status, 200);
  EXPECT_EQ(client.get("/health").status, 503);
  const auto refused = client.get("/v1/models");
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.has("Retry-After: "));
  server.set_ready();
  TestClient later(server.port());
  EXPECT_EQ(later.get("/health/ready").status, 200);
  EXPECT_EQ(later.get("/v1/models").status, 404);
}

TEST(HttpServer, DrainsWhatRunsAndTakesNothingNew) {
  Event* go = nullptr;
  boost::asio::any_io_executor executor;
  Counter begun;
  const Handler wait_for_go = [&](Exchange& e) -> Task<> {
    Event event(co_await boost::asio::this_coro::executor);
    executor = co_await boost::asio::this_coro::executor;
    go = &event;
    ++begun;
    co_await event.wait();
    co_await e.answer(200, "text/plain", "done");
  };
  TestServer server({}, {{"GET", "/go", wait_for_go}});
  TestClient running = server.client(), idle = server.client();
  EXPECT_EQ(idle.get("/health").status, 200);
  running.send("GET /go HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(begun.reaches(1));
  server.server->drain();
  EXPECT_EQ(idle.read_to_end(), "");
  EXPECT_EQ(server.client().post("/echo", "").status, 503);
  EXPECT_EQ(server.client().get("/health").status, 503);
  boost::asio::post(executor, [&] { go->notify(); });
  EXPECT_EQ(running.read_answer().body, "done");
  EXPECT_TRUE(server.server->wait());
}

TEST(HttpServer, WhatTheDrainHasNoTimeForIsToldWhy) {
  HttpOptions options;
  options.drain_time = std::chrono::milliseconds(50);
  TestServer server(options);
  TestClient waiting = server.client();
  waiting.send("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  ASSERT_TRUE(server.begun.reaches(1));
  server.server->drain();
  const auto answer = waiting.read_answer();
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("server_shutdown"), std::string::npos);
  EXPECT_TRUE(server.server->wait());
  EXPECT_EQ(server.gone.count(), 1);
}

TEST(HttpServer, EndsAtOnceWhenItIsDestroyed) {
  std::optional<TestServer> server(std::in_place);
  TestClient waiting = server->client(), stream = server->client();
  waiting.send("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  stream.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(server->begun.reaches(2));
  server->server.reset();
  EXPECT_EQ(server->gone.count(), 2);
}

TEST(HttpServer, ListensOnAUnixSocket) {
  const fs::path path = fs::temp_directory_path() / fmt::format("moiety_socket_{}", ::getpid());
  HttpOptions options;
  options.unix_socket = path;
  {
    TestServer server(options);
    EXPECT_EQ(TestClient(path.string()).post("/echo", "x").body, "x");
    EXPECT_THROW(TestServer{options}, Error);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(HttpServer, CountsAndLogsWithoutWhatWasAsked) {
  TestServer server;
  TestClient client = server.client();
  client.post("/echo", "my secret");
  const auto metrics = client.get("/metrics");
  EXPECT_NE(metrics.body.find("moiety_requests_total{route=\"/echo\",status=\"200\"} 1\n"), std::string::npos);
  EXPECT_NE(metrics.body.find("moiety_requests_in_flight 1\n"), std::string::npos);
  const std::string log = server.logged();
  const Json line = parse_json(log.substr(0, log.find('\n')), "log");
  EXPECT_EQ(line.at("path"), "/echo");
  EXPECT_EQ(line.at("client"), "127.0.0.1");
  EXPECT_EQ(log.find("secret"), std::string::npos);
}

}  // namespace
}  // namespace moiety::server
