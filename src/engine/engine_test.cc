#include "engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "base/error.h"
#include "support/engine_requests.h"

namespace moiety::engine {
namespace {

TEST(Engine, AnswersInACrowdAreThoseGivenAlone) {
  Model model;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Random random(seed);
    std::vector<Request> requests;
    std::vector<std::vector<int32_t>> alone;
    for (size_t i = 0; i < 12; ++i) {
      requests.push_back(random_request(random));
      // Some begin as another does, or are another's and its answer.
      if (i > 0 && random.below(2) == 0) {
        const size_t other = random.below(i);
        auto& prompt = requests.back().prompt;
        const auto& from = requests[other].prompt;
        prompt.insert(prompt.begin(), from.begin(), from.begin() + static_cast<std::ptrdiff_t>(random.below(from.size() + 1)));
      }
      alone.push_back(model.alone(requests.back()));
    }
    EngineOptions options{.context = 1024, .max_running = 1 + random.below(8), .step_tokens = 40 + random.below(200)};
    options.cache_tokens = 1024 + 512 * random.below(4);
    options.share_prefixes = random.below(4) > 0;
    options.speculate = random.below(4) > 0;
    Engine engine(model.transformer, options);
    std::vector<std::shared_ptr<Heard>> heard;
    for (const Request& request : requests) engine.submit(copy_of(request), heard.emplace_back(std::make_shared<Heard>()));
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(heard[i]->wait().tokens, alone[i]) << "request " << i << ", seed " << seed;
      EXPECT_EQ(heard[i]->outcome.new_tokens, alone[i].size());
    }
  }
}

TEST(Engine, TextThatRepeatsIsDraftedAndTheSame) {
  Model model;
  Request request;
  for (int i = 0; i < 60; ++i) request.prompt.insert(request.prompt.end(), {7, 8, 9, 10, 11});
  request.max_new_tokens = 200;
  request.sampling.temperature = 0;
  const auto alone = model.alone(request);
  Engine engine(model.transformer, {});
  const auto heard = std::make_shared<Heard>();
  engine.submit(copy_of(request), heard);
  EXPECT_EQ(heard->wait().tokens, alone);
  EXPECT_GT(heard->outcome.drafted, 0u);
}

TEST(Engine, ALongPromptHoldsUpNoAnswer) {
  Model model;
  Engine engine(model.transformer, {.context = 2048, .max_running = 2, .step_tokens = 64});
  Request first, second;
  first.prompt = {3, 4, 5};
  first.max_new_tokens = 500;
  Random random(1);
  second.prompt = random_tokens(1500, random);
  second.max_new_tokens = 1;
  const auto one = std::make_shared<Heard>(), two = std::make_shared<Heard>();
  engine.submit(std::move(first), one);
  one->wait_for_tokens(1);
  engine.submit(std::move(second), two);
  two->wait();
  // 1500 tokens take some 24 steps, and the answer came on in each.
  EXPECT_GE(one->count(), 20u);
  one->wait();
}

TEST(Engine, CancelledAndEnoughEndAtOnce) {
  Model model;
  Engine engine(model.transformer, {.context = 2048});
  Request request;
  request.prompt = {3, 4, 5};
  request.max_new_tokens = 2000;
  const auto cancelled = std::make_shared<Heard>(), enough = std::make_shared<Heard>(7);
  const uint64_t id = engine.submit(copy_of(request), cancelled);
  engine.submit(copy_of(request), enough);
  cancelled->wait_for_tokens(3);
  engine.cancel(id);
  EXPECT_EQ(cancelled->wait().outcome.stop, Outcome::Stop::Cancelled);
  EXPECT_LT(cancelled->tokens.size(), 2000u);
  EXPECT_EQ(enough->wait().outcome.stop, Outcome::Stop::Listener);
  EXPECT_EQ(enough->tokens.size(), 7u);
  engine.cancel(id);  // again: nothing
  engine.cancel(12345);
  EXPECT_EQ(cancelled->ends, 1);
}

TEST(Engine, ThoseThatRunAtTheEndAreToldOfIt) {
  Model model;
  std::vector<std::shared_ptr<Heard>> heard;
  {
    Engine engine(model.transformer, {.context = 2048, .max_running = 2});
    for (int i = 0; i < 5; ++i) {
      Request request;
      request.prompt = {3, 4, 5};
      request.max_new_tokens = 2000;
      engine.submit(std::move(request), heard.emplace_back(std::make_shared<Heard>()));
    }
    heard[0]->wait_for_tokens(1);
  }
  for (const auto& h : heard) {
    EXPECT_EQ(h->ends, 1);
    EXPECT_EQ(h->outcome.stop, Outcome::Stop::Cancelled);
  }
}

TEST(Engine, AHigherPriorityGoesFirstAndTurnsAreFair) {
  Model model;
  Engine engine(model.transformer, {.context = 512, .max_running = 1, .step_tokens = 64});
  std::mutex mutex;
  std::vector<std::string> order;
  struct Note : Heard {
    std::mutex* mutex;
    std::vector<std::string>* order;
    std::string name;
    bool on_token(const NewToken& token) override {
      if (tokens.empty()) {
        const std::lock_guard lock(*mutex);
        order->push_back(name);
      }
      return Heard::on_token(token);
    }
  };
  std::vector<std::shared_ptr<Note>> all;
  const auto ask = [&](const std::string& name, const std::string& client, int priority) {
    auto note = std::make_shared<Note>();
    note->mutex = &mutex;
    note->order = &order;
    note->name = name;
    Request request;
    request.prompt = {3, 4, 5, 6};
    request.max_new_tokens = 300;
    request.sampling.seed = all.size();
    request.client = client;
    request.priority = priority;
    engine.submit(std::move(request), all.emplace_back(note));
  };
  ask("first", "a", 0);
  all[0]->wait_for_tokens(1);  // the others wait for it
  ask("a1", "a", 0);
  ask("a2", "a", 0);
  ask("b1", "b", 0);
  ask("urgent", "a", 5);
  for (const auto& note : all) note->wait();
  EXPECT_EQ(order, (std::vector<std::string>{"first", "urgent", "b1", "a1", "a2"}));
}

TEST(Engine, ProbabilitiesSumUpAndGreedyTokensAreTheLikeliest) {
  Model model;
  Engine engine(model.transformer, {});
  Request request;
  Random random(2);
  request.prompt = random_tokens(150, random);
  request.max_new_tokens = 5;
  request.sampling.temperature = 0;
  request.logprobs = request.prompt_logprobs = true;
  request.top_logprobs = 50;
  const auto heard = std::make_shared<Heard>();
  engine.submit(std::move(request), heard);
  heard->wait();
  ASSERT_EQ(heard->prompt.size(), 150u);
  ASSERT_EQ(heard->all.size(), 5u);
  for (const auto* list : {&heard->all, &heard->prompt}) {
    for (const NewToken& token : *list) {
      if (token.top.empty()) continue;  // the first of all
      double sum = 0;
      for (const TokenLogprob& one : token.top) sum += std::exp(one.logprob);
      EXPECT_NEAR(sum, 1, 1e-4);
      if (list == &heard->all) {
        EXPECT_EQ(token.top[0].token, token.token);
      }
    }
  }
  // The prompt's are those that a run over all of its tokens gives.
  model::KvCache cache(model.file.spec(), {200, kernel::KvType::F32, 150});
  std::vector<int32_t> prompt;
  for (const NewToken& token : heard->prompt) prompt.push_back(token.token);
  const model::Chunk chunk{&cache, prompt, prompt.size()};
  const Matrix<float> logits = model.transformer.forward({&chunk, 1});
  for (size_t t = 1; t < prompt.size(); ++t) {
    double sum = 0;
    for (const float logit : logits.row(t - 1)) sum += std::exp(logit);
    EXPECT_NEAR(heard->prompt[t].logprob, logits.row(t - 1)[static_cast<size_t>(prompt[t])] - std::log(sum), 1e-4);
  }
}

TEST(Engine, EmbeddingsAreTheMeanOfStatesHoweverTheyAreCut) {
  Model model;
  Random random(3);
  const auto prompt = random_tokens(200, random);
  std::vector<std::vector<float>> found;
  for (const size_t step : {48, 500}) {
    Engine engine(model.transformer, {.max_running = 2, .step_tokens = step});
    Request request;
    request.kind = Request::Kind::Embed;
    request.prompt = prompt;
    const auto heard = std::make_shared<Heard>();
    engine.submit(std::move(request), heard);
    found.push_back(heard->wait().outcome.embedding_D);
    EXPECT_TRUE(heard->tokens.empty());
  }
  EXPECT_EQ(found[0], found[1]);
  model::KvCache cache(model.file.spec(), {200, kernel::KvType::F32, 200});
  Matrix<float> states;
  const model::Chunk chunk{&cache, prompt, 0, nullptr, &states};
  model.transformer.forward({&chunk, 1});
  ASSERT_EQ(found[0].size(), states.cols());
  for (size_t d = 0; d < states.cols(); ++d) {
    double sum = 0;
    for (size_t t = 0; t < 200; ++t) sum += states.row(t)[d];
    EXPECT_NEAR(found[0][d], sum / 200, 1e-5);
  }
}

// A constraint that lets certain tokens come, one after the other.
class Script : public TokenConstraint {
 public:
  explicit Script(std::vector<int32_t> tokens) : tokens_(std::move(tokens)) {}
  bool allows(int32_t token) override { return token == tokens_[at_]; }
  void mask(std::span<float> logits_V) override {
    for (size_t v = 0; v < logits_V.size(); ++v) {
      if (!allows(static_cast<int32_t>(v))) logits_V[v] = -std::numeric_limits<float>::infinity();
    }
  }
  void accept(int32_t) override { ++at_; }

 private:
  std::vector<int32_t> tokens_;
  size_t at_ = 0;
};

TEST(Engine, ConstraintsAreKept) {
  Model model;
  Engine engine(model.transformer, {});
  Request request;
  request.prompt = {3, 4, 5};
  const std::vector<int32_t> script = {9, 9, 9, 9, 12, 40, 9, 9, 9, 9, 12, 40, 9, 9, 9, 9, 12, 40, 2};
  request.constraint = std::make_unique<Script>(script);
  request.stop_tokens = {2};
  request.sampling.temperature = 1;
  const auto heard = std::make_shared<Heard>();
  engine.submit(std::move(request), heard);
  EXPECT_EQ(heard->wait().tokens, std::vector<int32_t>(script.begin(), script.end() - 1));
  EXPECT_EQ(heard->outcome.stop, Outcome::Stop::StopToken);
}

TEST(Engine, ARequestMayChooseExpertsItsOwnWay) {
  Model model;
  const auto ask = [&](Engine& engine, std::shared_ptr<const model::RouterOverride> router) {
    Request request;
    request.prompt = {3, 4, 5, 6, 7, 8};
    request.max_new_tokens = 20;
    request.sampling.temperature = 0;
    request.router = std::move(router);
    auto heard = std::make_shared<Heard>();
    const uint64_t id = engine.submit(std::move(request), heard);
    return std::pair(id, heard);
  };
  auto one = std::make_shared<model::RouterOverride>();
  one->experts_per_token = 1;
  auto never_first = std::make_shared<model::RouterOverride>();
  never_first->bias_LE = {-1000, 0, 0, 0, -1000, 0, 0, 0};
  Engine engine(model.transformer, {});
  const auto [plain_id, plain] = ask(engine, nullptr);
  const auto [one_id, with_one] = ask(engine, one);
  const auto [never_id, never] = ask(engine, never_first);
  for (const auto& heard : {plain, with_one, never}) heard->wait();
  const auto visits = [&](uint64_t id) {
    std::vector<uint32_t> sum;
    for (const auto& layer : engine.visits_of(id)) {
      sum.push_back(0);
      for (const uint32_t n : layer) sum.back() += n;
    }
    return sum;
  };
  // 25 tokens were computed: the last one was not.
  EXPECT_EQ(visits(plain_id), (std::vector<uint32_t>{50, 50}));
  EXPECT_EQ(visits(one_id), (std::vector<uint32_t>{25, 25}));
  EXPECT_EQ(engine.visits_of(never_id)[0][0], 0u);
  EXPECT_EQ(engine.visits_of(never_id)[1][0], 0u);
  EXPECT_NE(never->tokens, plain->tokens);
}

TEST(Engine, AListenerThatThrowsEndsItsOwnRequestAlone) {
  Model model;
  struct Thrower : Heard {
    bool on_token(const NewToken& token) override {
      if (tokens.size() == 3) throw std::runtime_error("enough of this");
      return Heard::on_token(token);
    }
  };
  Engine engine(model.transformer, {});
  const Request request = request_of({3, 4, 5}, 30);
  const auto alone = model.alone(request);
  const auto good = std::make_shared<Heard>();
  const auto bad = std::make_shared<Thrower>();
  engine.submit(copy_of(request), bad);
  engine.submit(copy_of(request), good);
  EXPECT_EQ(good->wait().tokens, alone);
  EXPECT_EQ(bad->wait().outcome.stop, Outcome::Stop::Failed);
  EXPECT_EQ(bad->outcome.error, "enough of this");
  EXPECT_EQ(bad->tokens.size(), 3u);
}

TEST(Engine, WhatCanNotRunIsRefusedAtOnce) {
  Model model;
  Engine engine(model.transformer, {.context = 100});
  const auto refuses = [&](auto change) {
    Request request;
    request.prompt = {3, 4};
    change(request);
    EXPECT_THROW(engine.submit(std::move(request), std::make_shared<Heard>()), Error);
  };
  refuses([](Request& r) { r.prompt.clear(); });
  refuses([](Request& r) { r.prompt = {3, 50}; });
  refuses([](Request& r) { r.prompt = {-1}; });
  refuses([](Request& r) { r.prompt.assign(100, 3); });
  refuses([](Request& r) { r.max_new_tokens = 0; });
  refuses([](Request& r) { r.sampling.temperature = -1; });
  refuses([](Request& r) { r.router = std::make_shared<model::RouterOverride>(model::RouterOverride{5, {}}); });
  refuses([](Request& r) { r.router = std::make_shared<model::RouterOverride>(model::RouterOverride{0, {1, 2}}); });
}

// Says its first token when it is let go on.
class Held : public Heard {
 public:
  bool on_token(const NewToken& token) override {
    has_begun = true;
    has_begun.notify_all();
    let_go.wait(false);
    return Heard::on_token(token);
  }
  std::atomic<bool> has_begun = false, let_go = false;
};

TEST(Engine, WhoWaitsLongerThanItMayIsNotBegun) {
  Model model;
  Engine engine(model.transformer, {.context = 256, .max_running = 1});
  Request request;
  request.prompt = {3, 4, 5};
  request.max_new_tokens = 100;
  const std::vector<int32_t> alone = model.alone(request);
  // The first has its place at once, the second waits while the first is held.
  const auto first = std::make_shared<Held>(), second = std::make_shared<Held>(), patient = std::make_shared<Held>();
  engine.submit(copy_of(request), first);
  first->has_begun.wait(false);
  Request late = copy_of(request);
  late.queue_seconds = 0;
  engine.submit(std::move(late), second);
  engine.submit(copy_of(request), patient);
  for (const auto& held : {first, second, patient}) {
    held->let_go = true;
    held->let_go.notify_all();
  }
  EXPECT_EQ(second->wait().outcome.stop, Outcome::Stop::Overdue);
  EXPECT_TRUE(second->tokens.empty());
  EXPECT_EQ(first->wait().tokens, alone);
  EXPECT_EQ(patient->wait().tokens, alone);
}

}  // namespace
}  // namespace moiety::engine
