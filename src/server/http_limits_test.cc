// What the server does with clients that send too much, too little, nonsense, or nothing.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <random>

#include "base/json.h"
#include "server/test_server.h"

namespace moiety::server {
namespace {

HttpOptions quick() {
  HttpOptions options;
  options.max_header = 4096;
  options.max_body = 10000;
  options.linger_time = std::chrono::milliseconds(200);
  return options;
}

struct Malformed {
  const char* text;
  int status;
};

TEST(HttpLimits, WhatIsMalformedIsRefusedAndTheConnectionEnds) {
  TestServer server(quick());
  constexpr Malformed kCases[] = {
      {"nonsense\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},                         // no Host
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET nothing HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505},
      {"GET / HTTP/1.1\r\nHost: x\r\nbro ken: 1\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", 415},
  };
  for (const Malformed& c : kCases) {
    SCOPED_TRACE(c.text);
    TestClient client = server.client();
    const auto answer = client.ask(c.text);
    EXPECT_EQ(answer.status, c.status);
    EXPECT_TRUE(answer.has("Connection: close"));
    EXPECT_TRUE(parse_json(answer.body, "answer").at("error").at("message").is_string());
    EXPECT_EQ(client.read_to_end(), "");
  }
}

TEST(HttpLimits, OfHeadersAndBodies) {
  TestServer server(quick());
  EXPECT_EQ(server.client().get("/health", "X: " + std::string(5000, 'x') + "\r\n").status, 431);
  std::string many;
  for (int i = 0; i < 500; ++i) many += "X" + std::to_string(i) + ": 1\r\n";
  EXPECT_EQ(server.client().get("/health", many).status, 431);
  EXPECT_EQ(server.client().get("/" + std::string(5000, 'x')).status, 431);
  EXPECT_EQ(server.client().post("/echo", std::string(10000, 'x')).status, 200);
  EXPECT_EQ(server.client().post("/echo", std::string(10001, 'x')).status, 413);
  EXPECT_EQ(server.client().post("/echo", std::string(3000000, 'x')).status, 413);  // more than sockets hold

  std::string chunks;
  for (int i = 0; i < 11; ++i) chunks += "3e8\r\n" + std::string(1000, 'x') + "\r\n";
  EXPECT_EQ(server.client().ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks).status, 413);
}

TEST(HttpLimits, OfAllBodiesTogether) {
  HttpOptions options = quick();
  options.max_bodies = 15000;
  TestServer server(options);
  TestClient first = server.client(), second = server.client();
  first.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(first.read_to("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  const auto refused = second.post("/echo", std::string(9000, 'x'));
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.has("Retry-After: "));
  EXPECT_EQ(first.ask(std::string(9000, 'x')).status, 200);
  EXPECT_EQ(server.client().post("/echo", std::string(9000, 'x')).status, 200);
}

TEST(HttpLimits, AChunksHeadIsBounded) {
  TestServer server(quick());
  TestClient client = server.client();
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;" + std::string(1 << 18, 'a'));
  EXPECT_EQ(client.read_answer().status, 400);
}

TEST(HttpLimits, SlowClientsAreToldOrLeft) {
  HttpOptions options = quick();
  options.header_time = options.body_time = options.idle_time = std::chrono::milliseconds(50);
  TestServer server(options);
  TestClient silent = server.client();
  EXPECT_EQ(silent.read_to_end(), "");
  TestClient in_head = server.client();
  EXPECT_EQ(in_head.ask("GET /health HTTP/1.1\r\nHo").status, 408);
  TestClient in_body = server.client();
  EXPECT_EQ(in_body.ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").status, 408);
}

TEST(HttpLimits, OfConnections) {
  HttpOptions options = quick();
  options.max_connections = 3;
  TestServer server(options);
  std::vector<TestClient> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(server.client());
    EXPECT_EQ(clients.back().get("/health").status, 200);
  }
  const auto refused = server.client().get("/health");
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.has("Retry-After: "));
  EXPECT_EQ(clients[0].get("/health").status, 200);
}

TEST(HttpLimits, ManyIdleConnectionsAreInNobodysWay) {
  TestServer server;
  std::vector<TestClient> idle;
  for (int i = 0; i < 300; ++i) idle.push_back(server.client());
  EXPECT_EQ(server.client().get("/health").status, 200);
  EXPECT_EQ(idle[137].get("/health").status, 200);
}

TEST(HttpLimits, WhoNeverReadsAnEndlessStreamIsDropped) {
  HttpOptions options = quick();
  options.write_time = std::chrono::milliseconds(50);
  options.send_buffer = 16 << 10;
  TestServer server(options);
  TestClient client(server.port(), 4096);
  client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(server.gone.reaches(1));
}

// Bytes in any pieces are the same bytes.
RC_GTEST_PROP(HttpLimits, RequestsMayComeInAnyPieces, ()) {
  static TestServer server;
  const auto body = *rc::gen::container<std::string>(rc::gen::inRange('a', 'z'));
  const auto cuts = *rc::gen::container<std::vector<int>>(5, rc::gen::inRange(1, 60));
  const std::string request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  TestClient client = server.client();
  std::string_view rest = request;
  for (const int cut : cuts) {
    client.send(rest.substr(0, static_cast<size_t>(cut)));
    rest.remove_prefix(std::min(rest.size(), static_cast<size_t>(cut)));
  }
  client.send(rest);
  RC_ASSERT(client.read_answer().body == body);
}

// Whatever comes, the server goes on answering others.
RC_GTEST_PROP(HttpLimits, GarbageHarmsNobody, ()) {
  static TestServer server(quick());
  constexpr const char* kPieces[] = {"GET ", "/", " HTTP/1.1", "\r\n", "Host: x", "Transfer-Encoding: chunked", "\r\n\r\n", "0", ":", "\xff", "Content-Length: 5", "fffffffffffffffff"};
  TestClient client = server.client();
  for (const int piece : *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 12))) client.send(kPieces[piece]);
  if (*rc::gen::arbitrary<bool>()) {
    client.vanish();
  }
  RC_ASSERT(server.client().get("/health").status == 200);
}

}  // namespace
}  // namespace moiety::server
