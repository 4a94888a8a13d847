#include "server/admission.h"

#include <atomic>
#include <chrono>

#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

// The status that an attempt to enter is answered with; 0: none.
int refused(Admission& admission, size_t answers = 1) {
  try {
    const Admission::Ticket ticket(admission, answers);
    return 0;
  } catch (const HttpError& error) {
    EXPECT_EQ(error.headers.at(0).first, "Retry-After");
    return error.status;
  }
}

TEST(Admission, WhoFindsTheHouseFullIsRefusedUntilSomebodyLeaves) {
  Admission admission(3);
  std::optional<Admission::Ticket> one(std::in_place, admission, 1), two(std::in_place, admission, 2);
  EXPECT_EQ(refused(admission), 429);
  EXPECT_THROW(admission.check(), HttpError);
  one.reset();
  EXPECT_EQ(refused(admission, 64), 0);
  EXPECT_EQ(admission.answers(), 2u);
  two.reset();
  EXPECT_EQ(admission.answers(), 0u);
}

// Takes its time over each token until it is told to hurry.
class Slow final : public engine::TokenConstraint {
 public:
  Slow(std::vector<int32_t> tokens, const std::atomic<bool>& hurries) : script_(std::move(tokens)), hurries_(hurries) {}
  bool allows(int32_t token) override { return script_.allows(token); }
  void mask(std::span<float> logits_V) override { script_.mask(logits_V); }
  void accept(int32_t token) override {
    script_.accept(token);
    for (int i = 0; i < 100 && !hurries_; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

 private:
  Script script_;
  const std::atomic<bool>& hurries_;
};

// A server that writes one answer at a time, and is asked `body` while it does.
struct Busy {
  explicit Busy(size_t max_queue, double queue_seconds) : fixture(engine::EngineOptions{.max_running = 1}) {
    fixture.service.limits.max_queue = max_queue;
    fixture.service.limits.queue_seconds = queue_seconds;
    fixture.service.admission.reset();
    fixture.routes = api_routes(fixture.service);
    fixture.service.constrain = [this](const OutputRule&, std::span<const int32_t>) {
      std::vector<int32_t> tokens(300, fixture.id("a"));
      tokens.push_back(fixture.id("<|im_end|>"));
      return std::make_unique<Slow>(std::move(tokens), hurries);
    };
  }
  // What the second is told. Checks that the first is not disturbed.
  Recorded ask_meanwhile(const std::string& path, const OrderedJson& body) {
    Recorded first("POST", "/v1/completions", to_text({{"prompt", "the"}, {"grammar", "x"}, {"max_tokens", 400}, {"stream", true}}));
    std::optional<Recorded> second;
    first.on_event = [&] {
      if (second) return;
      second.emplace("POST", path, to_text(body));
      run(fixture, *second);
      hurries = true;
    };
    run(fixture, first);
    EXPECT_TRUE(first.has_ended);
    std::string text;
    for (const auto& [name, data] : first.events) {
      if (data != "[DONE]") text += parse_ordered_json(data, "event").at("choices").at(0).at("text").get<std::string>();
    }
    EXPECT_EQ(text, std::string(300, 'a'));
    EXPECT_EQ(fixture.service.admission->answers(), 0u);
    return *second;
  }

  std::atomic<bool> hurries = false;
  Fixture fixture;
};

const std::pair<const char*, OrderedJson> kAsked[] = {
    {"/v1/completions", {{"prompt", "the"}, {"max_tokens", 1}}},
    {"/v1/completions", {{"prompt", "the"}, {"max_tokens", 1}, {"n", 3}, {"stream", true}}},
    {"/v1/embeddings", {{"input", "the"}}},
    {"/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 1}}},
};

TEST(Admission, BeyondTheQueueThereIsA429) {
  for (const auto& [path, body] : kAsked) {
    const Recorded second = Busy(0, 1e6).ask_meanwhile(path, body);
    EXPECT_EQ(second.status, 429) << path;
    EXPECT_EQ(second.error_code, "rate_limit_exceeded");
  }
}

TEST(Admission, WhoWaitsTooLongIsRefusedBeforeAnythingIsSent) {
  for (const auto& [path, body] : kAsked) {
    const Recorded second = Busy(9, 0).ask_meanwhile(path, body);
    EXPECT_EQ(second.status, 429) << path;
    EXPECT_TRUE(second.events.empty());
  }
}

// The others of a request wait for the first, which was begun in time.
TEST(Admission, OneRequestsAnswersMayWaitForEachOther) {
  Fixture fixture(engine::EngineOptions{.max_running = 1});
  fixture.service.limits.queue_seconds = 0;
  EXPECT_EQ(post(fixture, "/v1/completions", {{"prompt", "the"}, {"max_tokens", 3}, {"n", 4}}).status, 200);
  EXPECT_EQ(post(fixture, "/v1/embeddings", {{"input", {"the", "router", "the"}}}).status, 200);
}

}  // namespace
}  // namespace moiety::server
