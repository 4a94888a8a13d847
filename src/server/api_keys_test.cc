#include "server/api_keys.h"

#include <unistd.h>

#include "base/error.h"
#include "server/answer_request.h"
#include "server/test_server.h"

namespace moiety::server {
namespace {

// A file that is gone with the test.
struct KeysFile {
  explicit KeysFile(const std::string& text) { write(text); }
  ~KeysFile() { fs::remove(path); }
  void write(const std::string& text) const { write_file(path, text); }
  const fs::path path = fs::temp_directory_path() / fmt::format("moiety_keys_{}", ::getpid());
};

// sha256sum of "test"
constexpr const char* kHashOfTest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

TEST(ApiKeys, PlainAndHashedKeysWithPriorities) {
  const KeysFile file(std::string("# a comment\n\nalice sk-1 priority=5\nbob sha256:") + kHashOfTest + " max-priority=3\n");
  ApiKeys keys(file.path, [](const std::string&) {});
  ASSERT_NE(keys.find("sk-1"), nullptr);
  EXPECT_EQ(keys.find("sk-1")->name, "alice");
  EXPECT_EQ(keys.find("sk-1")->priority, 5);
  EXPECT_EQ(keys.find("sk-1")->max_priority, 5);
  EXPECT_EQ(keys.find("test")->priority, 0);
  EXPECT_EQ(keys.find("test")->max_priority, 3);
  EXPECT_EQ(keys.find({{"authorization", "bearer test"}})->name, "bob");
  EXPECT_EQ(keys.find({{"x-api-key", "test"}})->name, "bob");
  for (const char* no : {"", "sk-", "sk-11", kHashOfTest, "sha256:"}) EXPECT_EQ(keys.find(no), nullptr) << no;
  EXPECT_EQ(keys.find({{"authorization", "Basic test"}}), nullptr);
}

TEST(ApiKeys, WhatCantBeReadIsRefusedWithItsLine) {
  for (const char* text : {"", "# none\n", "alice\n", "alice sha256:12\n", "a k priority=x\n", "a k more\n", "a k\na l\n", "a k priority=99999\n", "a k max-priority=\n", "a k priority=2 max-priority=1\n"}) {
    EXPECT_THROW(parse_api_keys(text, "keys"), Error) << text;
  }
}

TEST(ApiKeys, AreReadAgainWhenTheFileChangesUnlessItIsBroken) {
  const KeysFile file("alice old\n");
  int warnings = 0;
  ApiKeys keys(file.path, [&](const std::string&) { ++warnings; });
  file.write("alice new\n");
  EXPECT_EQ(keys.find("old"), nullptr);
  EXPECT_NE(keys.find("new"), nullptr);
  file.write("broken\n");
  EXPECT_NE(keys.find("new"), nullptr);
  EXPECT_NE(keys.find("new"), nullptr);
  EXPECT_EQ(warnings, 1);
  file.write("alice newest\n");
  EXPECT_NE(keys.find("newest"), nullptr);
}

TEST(ApiKeys, GuardRoutesThatNeedOne) {
  const KeysFile file("alice sk-1 priority=7 max-priority=9\n");
  HttpOptions options;
  options.keys = file.path;
  TestServer server(options);
  EXPECT_EQ(server.client().get("/health").status, 200);
  EXPECT_EQ(server.client().get("/metrics").status, 401);
  EXPECT_EQ(server.client().get("/v1/client", "Authorization: Bearer wrong\r\n").status, 401);
  EXPECT_EQ(server.client().get("/v1/client", "Authorization: Bearer sk-1\r\n").body, "alice 7 9");
  EXPECT_EQ(server.client().get("/v1/client", "x-api-key: sk-1\r\n").body, "alice 7 9");
  // Refused before the body is asked for.
  EXPECT_EQ(server.client().ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").status, 401);
}

TEST(ApiKeys, SayHowUrgentARequestMayBe) {
  const auto priority = [](int asked, const HttpRequest& request) {
    AnswerRequest answer{.priority = asked};
    set_client(answer, request);
    return answer.priority;
  };
  EXPECT_EQ(priority(1000, {}), 0);  // nobody may push in
  EXPECT_EQ(priority(-7, {}), -7);
  const HttpRequest allowed{.priority = -5, .max_priority = 10};
  EXPECT_EQ(priority(0, allowed), -5);
  EXPECT_EQ(priority(8, allowed), 3);
  EXPECT_EQ(priority(1000, allowed), 10);
  EXPECT_EQ(priority(-1, allowed), -6);
}

}  // namespace
}  // namespace moiety::server
