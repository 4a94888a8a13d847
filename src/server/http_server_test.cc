#include "server/http_server.h"

#include "base/error.h"
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

TEST(HttpServer, EventsAreChunksAndEnd) {
  TestServer server;
  TestClient client = server.client();
  const auto answer = client.get("/events");
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.has("Content-Type: text/event-stream"));
  EXPECT_EQ(answer.body, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
  EXPECT_EQ(client.post("/echo", "x").body, "x");
}

}  // namespace
}  // namespace moiety::server
