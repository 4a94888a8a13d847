#include "server/live.h"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "server/live_events.h"
#include "server/test_server.h"
#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

// Listens to so many events and leaves.
class Listening final : public Exchange {
 public:
  Listening(std::string request, size_t most) : most_(most) { request_.query["request"] = std::move(request); }
  const HttpRequest& request() const override { return request_; }
  Task<> answer(int, std::string_view, std::string, Headers) override {
    ADD_FAILURE() << "answered";
    co_return;
  }
  Task<> begin_events(Headers) override { co_return; }
  Task<> send_event(std::string_view data, std::string_view name) override {
    names.emplace_back(name);
    events.push_back(parse_json(data, "event"));
    // As the network does: not from within the handler.
    if (events.size() == most_) asio::post(co_await asio::this_coro::executor, [this] { leave.emit(asio::cancellation_type::all); });
    co_return;
  }
  Task<> end_events() override { co_return; }
  bool has_begun() const override { return !events.empty(); }

  std::vector<std::string> names;
  std::vector<Json> events;
  asio::cancellation_signal leave;

 private:
  HttpRequest request_;
  size_t most_;
};

std::unique_ptr<Listening> listen(const Service& service, const std::string& request, size_t events) {
  auto exchange = std::make_unique<Listening>(request, events);
  asio::io_context context;
  bool has_left = false;
  const std::vector<Route> routes = live_routes(service);
  asio::co_spawn(context, routes.at(0).handle(*exchange),
                 asio::bind_cancellation_slot(exchange->leave.slot(), [&](std::exception_ptr error) { has_left = error != nullptr; }));
  context.run();
  EXPECT_TRUE(has_left);
  return exchange;
}

TEST(Live, TellsTheModelThenFiguresAndMapsThatChanged) {
  Fixture fixture;
  fixture.service.memory_budget = 12345;
  post(fixture, "/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"grammar", "hello"}});
  const std::vector<uint64_t> ids = fixture.service.answer_ids->find("");
  ASSERT_EQ(ids.size(), 1u);
  fixture.service.answer_ids->add("one", ids[0]);

  const auto exchange = listen(fixture.service, "one", 3);
  ASSERT_EQ(exchange->names, (std::vector<std::string>{"model", "", ""}));
  EXPECT_EQ(exchange->events[0], model_event(fixture.engine().spec(), fixture.engine().options().context));

  const Json& first = exchange->events[1];
  EXPECT_EQ(first["memory_budget"], 12345);
  EXPECT_EQ(first["waiting"], 0);
  EXPECT_GT(first["memory"], 0);
  std::vector<std::vector<float>> visits_LE;
  for (const auto& visits_E : fixture.engine().visits_of(ids[0])) visits_LE.emplace_back(visits_E.begin(), visits_E.end());
  EXPECT_EQ(first["answer"], heat_map(visits_LE));
  EXPECT_NE(first["answer"], "");
  EXPECT_EQ(first["all"], heat_map(fixture.engine().statistics().load_LE));
  EXPECT_FALSE(exchange->events[2].contains("all"));
  EXPECT_FALSE(exchange->events[2].contains("answer"));
}

TEST(Live, TellsNothingOfAnAnswerThatNobodyKnows) {
  Fixture fixture;
  const auto exchange = listen(fixture.service, "unheard of", 2);
  EXPECT_FALSE(exchange->events[1].contains("answer"));
  EXPECT_TRUE(exchange->events[1].contains("all"));
}

TEST(Live, AnswersToOneRequestCountTogether) {
  Fixture fixture;
  post(fixture, "/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"grammar", "hello"}, {"n", 2}});
  const std::vector<uint64_t> ids = fixture.service.answer_ids->find("");
  ASSERT_EQ(ids.size(), 2u);
  for (const uint64_t id : ids) fixture.service.answer_ids->add("both", id);
  std::vector<std::vector<float>> sum_LE;
  for (const uint64_t id : ids) {
    const auto visits_LE = fixture.engine().visits_of(id);
    sum_LE.resize(visits_LE.size());
    for (size_t l = 0; l < visits_LE.size(); ++l) {
      sum_LE[l].resize(visits_LE[l].size());
      for (size_t e = 0; e < visits_LE[l].size(); ++e) sum_LE[l][e] += static_cast<float>(visits_LE[l][e]);
    }
  }
  EXPECT_EQ(listen(fixture.service, "both", 2)->events[1]["answer"], heat_map(sum_LE));
}

TEST(Live, AServerThatEndsDoesNotWaitForListeners) {
  Fixture fixture;
  TestServer server({.drain_time = std::chrono::minutes(1)}, live_routes(fixture.service));
  TestClient client = server.client();
  client.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_NE(client.read_to("event: model").find("200 OK"), std::string::npos);
  server.server->drain();
  EXPECT_NE(client.read_to_end().find("the server is ending"), std::string::npos);
}

}  // namespace
}  // namespace moiety::server
