#include "server/page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "server/page_bytes.h"

namespace moiety::server {
namespace {

// Keeps what was answered.
class Recorded : public Exchange {
 public:
  explicit Recorded(std::map<std::string, std::string> asked) { request_.headers = std::move(asked); }
  const HttpRequest& request() const override { return request_; }
  Task<> answer(int answer_status, std::string_view, std::string answer_body, Headers answer_headers) override {
    status = answer_status;
    body = std::move(answer_body);
    headers = std::move(answer_headers);
    co_return;
  }
  Task<> begin_events(Headers) override { co_return; }
  Task<> send_event(std::string_view, std::string_view) override { co_return; }
  Task<> end_events() override { co_return; }
  bool has_begun() const override { return status != 0; }

  std::string header(std::string_view name) const {
    const auto found = std::ranges::find(headers, name, [](const auto& each) { return std::string_view(each.first); });
    return found == headers.end() ? "" : found->second;
  }

  int status = 0;
  std::string body;
  Headers headers;

 private:
  HttpRequest request_;
};

Recorded ask(std::map<std::string, std::string> headers) {
  Recorded exchange(std::move(headers));
  boost::asio::io_context io;
  const std::vector<Route> routes = page_routes();
  boost::asio::co_spawn(io, routes.at(0).handle(exchange), boost::asio::detached);
  io.run();
  return exchange;
}

TEST(AcceptsGzip, ReadsTheListAndItsWeights) {
  for (const char* yes : {"gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.5", "identity, *", "deflate , gzip ; q=0.001", "x-gzip"}) {
    EXPECT_TRUE(accepts_gzip(yes)) << yes;
  }
  for (const char* no : {"", "identity", "br", "gzip;q=0", "gzip; q=0.000, *", "*;q=0", "gzipped", ",;,", ";q=1"}) {
    EXPECT_FALSE(accepts_gzip(no)) << no;
  }
}

TEST(Page, ComesPlainOrCompressedAsAskedFor) {
  const Recorded plain = ask({});
  EXPECT_EQ(plain.status, 200);
  EXPECT_EQ(plain.body, page_html());
  EXPECT_EQ(plain.header("Content-Encoding"), "");
  EXPECT_TRUE(plain.body.starts_with("<!doctype html>"));

  const Recorded packed = ask({{"accept-encoding", "gzip"}});
  if (page_html_gz().empty()) {  // the page was not bundled
    EXPECT_EQ(packed.body, page_html());
  } else {
    EXPECT_EQ(packed.header("Content-Encoding"), "gzip");
    EXPECT_EQ(packed.body, page_html_gz());
    EXPECT_NE(packed.header("ETag"), plain.header("ETag"));
  }
}

TEST(Page, IsNotSentTwiceToWhoHasIt) {
  const std::string tag = ask({}).header("ETag");
  const Recorded again = ask({{"if-none-match", "W/\"x\", " + tag}});
  EXPECT_EQ(again.status, 304);
  EXPECT_EQ(again.body, "");
  EXPECT_EQ(again.header("ETag"), tag);
  EXPECT_EQ(ask({{"if-none-match", "\"other\""}}).status, 200);
}

TEST(Page, RunsNothingButItsOwnScript) {
  const std::string policy = ask({}).header("Content-Security-Policy");
  EXPECT_NE(policy.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(policy.find("frame-ancestors 'none'"), std::string::npos);
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(policy.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace moiety::server
