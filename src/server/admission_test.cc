#include "server/admission.h"

#include <gtest/gtest.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>

#include "server/event.h"

namespace moiety::server {
namespace {

namespace asio = boost::asio;

// Tasks that enter, note their name, and hold their ticket until they are let go.
struct Crowd {
  explicit Crowd(const AdmissionOptions& options) : admission(options) {}

  void enter(const std::string& name, const std::string& client = "somebody", int priority = 0) {
    const auto done = [this, name](std::exception_ptr problem) {
      try {
        if (problem) std::rethrow_exception(problem);
      } catch (const HttpError& error) {
        refused.push_back(name + " " + std::to_string(error.status) + " " + error.headers.at(0).first);
      } catch (const std::exception&) {
        cancelled.push_back(name);
      }
    };
    asio::co_spawn(io, work(name, client, priority), asio::bind_cancellation_slot(signals[name].slot(), done));
    io.poll();
  }
  Task<> work(std::string name, std::string client, int priority) {
    const HttpRequest request{.client = client, .priority = priority};
    const Ticket ticket = co_await admission.enter(request);
    inside.push_back(name);
    co_await events.try_emplace(name, io.get_executor()).first->second.wait();
  }
  void leave(const std::string& name) {
    events.at(name).notify();
    io.restart();
    io.poll();
  }

  std::vector<std::string> inside, refused, cancelled;
  Admission admission;
  std::map<std::string, asio::cancellation_signal> signals;
  asio::io_context io;  // destroys the tasks that are left, which leave what is above
  std::map<std::string, Event> events;
};

using Names = std::vector<std::string>;

TEST(Admission, LetsInAsManyAsItMayAndRefusesWhoFindsTheQueueFull) {
  Crowd crowd({.max_concurrent = 2, .max_queue = 1});
  for (const char* name : {"a", "b", "c", "d"}) crowd.enter(name);
  EXPECT_EQ(crowd.inside, (Names{"a", "b"}));
  EXPECT_EQ(crowd.refused, (Names{"d 429 Retry-After"}));
  crowd.leave("a");
  EXPECT_EQ(crowd.inside, (Names{"a", "b", "c"}));
  EXPECT_EQ(crowd.admission.running(), 2u);
}

TEST(Admission, PrefersPriorityThenWhoHasLeastRunningThenWhoCameFirst) {
  Crowd crowd({.max_concurrent = 2, .max_queue = 9});
  crowd.enter("a1", "alice");
  crowd.enter("a2", "alice");
  crowd.enter("a3", "alice");
  crowd.enter("b1", "bob");
  crowd.enter("c1", "carol");
  crowd.enter("d1", "dave", 1);
  for (const char* name : {"a1", "d1", "b1", "c1"}) crowd.leave(name);
  EXPECT_EQ(crowd.inside, (Names{"a1", "a2", "d1", "b1", "c1", "a3"}));
}

TEST(Admission, WhoLeavesTheQueueIsNotWaitedFor) {
  Crowd crowd({.max_concurrent = 1, .max_queue = 9});
  for (const char* name : {"a", "b", "c"}) crowd.enter(name);
  crowd.signals["b"].emit(asio::cancellation_type::all);
  crowd.io.restart();
  crowd.io.poll();
  EXPECT_EQ(crowd.cancelled, (Names{"b"}));
  EXPECT_EQ(crowd.admission.waiting(), 1u);
  crowd.leave("a");
  EXPECT_EQ(crowd.inside, (Names{"a", "c"}));
  crowd.leave("c");
  EXPECT_EQ(crowd.admission.running(), 0u);
}

TEST(Admission, WhoWaitsTooLongIsRefused) {
  Crowd crowd({.max_concurrent = 1, .max_queue = 9, .queue_time = std::chrono::milliseconds(1)});
  crowd.enter("a");
  crowd.enter("b");
  while (crowd.refused.empty()) crowd.io.run_one();
  EXPECT_EQ(crowd.refused, (Names{"b 429 Retry-After"}));
  EXPECT_EQ(crowd.admission.waiting(), 0u);
}

}  // namespace
}  // namespace moiety::server
