// What is known of earlier prompts, and what it spares.
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "support/engine_requests.h"

namespace moiety::engine {
namespace {

spec::ModelSpec with_latents() {
  spec::ModelSpec spec = Model::wide_context();
  spec.attention = {.num_heads = 4, .num_kv_heads = 4, .head_dim = 12};
  spec.attention.latent = spec::LatentSpec{.kv_rank = 16, .plain_dim = 8, .rope_dim = 4, .value_dim = 8};
  return spec;
}

spec::ModelSpec with_windows() {
  spec::ModelSpec spec = Model::wide_context();
  spec.attention.sliding_window = 40;
  return spec;
}

TEST(EnginePrompts, AConversationIsComputedOnce) {
  for (const spec::ModelSpec& spec : {Model::wide_context(), with_latents(), with_windows()}) {
    Model model(spec);
    Random random(4);
    std::vector<int32_t> prompt = random_tokens(300, random);
    Engine engine(model.transformer, {});
    size_t known = 0;
    for (int turn = 0; turn < 4; ++turn) {
      const auto heard = std::make_shared<Heard>();
      const Request request = request_of(prompt, 50);
      const auto alone = model.alone(request);
      engine.submit(copy_of(request), heard);
      ASSERT_EQ(heard->wait().tokens, alone) << "turn " << turn;
      // Of a latent model what was said is computed again: as part of a prompt its numbers are others.
      EXPECT_EQ(heard->outcome.cached_tokens, known);
      known = spec.attention.latent ? prompt.size() : prompt.size() + 49;
      prompt.insert(prompt.end(), alone.begin(), alone.end());
      const auto more = random_tokens(20, random);
      prompt.insert(prompt.end(), more.begin(), more.end());
    }
  }
}

TEST(EnginePrompts, WhatManyBeginWithIsComputedOnceAlsoIfTheyComeTogether) {
  for (const spec::ModelSpec& spec : {Model::wide_context(), with_latents(), with_windows()}) {
    Model model(spec);
    Random random(5);
    const std::vector<int32_t> shared = random_tokens(700, random);
    std::vector<Request> requests;
    std::vector<std::vector<int32_t>> alone;
    for (size_t i = 0; i < 8; ++i) {
      std::vector<int32_t> prompt = shared;
      const auto own = random_tokens(10 + i, random);
      prompt.insert(prompt.end(), own.begin(), own.end());
      requests.push_back(request_of(prompt, 20));
      alone.push_back(model.alone(requests.back()));
    }
    Engine engine(model.transformer, {.max_running = 8, .step_tokens = 100});
    std::vector<std::shared_ptr<Heard>> heard;
    for (const Request& request : requests) engine.submit(copy_of(request), heard.emplace_back(std::make_shared<Heard>()));
    size_t computed = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(heard[i]->wait().tokens, alone[i]);
      computed += requests[i].prompt.size() - heard[i]->outcome.cached_tokens;
    }
    EXPECT_LE(computed, shared.size() + 8 * 20);
  }
}

TEST(EnginePrompts, WhatOneChoseExpertsForIsNotTakenForAnother) {
  Model model;
  Random random(6);
  Engine engine(model.transformer, {});
  const Request request = request_of(random_tokens(300, random), 20);
  const auto ask = [&](std::shared_ptr<const model::RouterOverride> router) {
    const auto heard = std::make_shared<Heard>();
    Request copy = copy_of(request);
    copy.router = std::move(router);
    engine.submit(std::move(copy), heard);
    heard->wait();
    return heard;
  };
  const auto one = [] { return std::make_shared<model::RouterOverride>(model::RouterOverride{1, {}}); };
  const auto plain = ask(nullptr), first = ask(one()), again = ask(one()), back = ask(nullptr);
  EXPECT_EQ(first->outcome.cached_tokens, 0u);
  EXPECT_EQ(again->outcome.cached_tokens, 299u);
  EXPECT_EQ(back->outcome.cached_tokens, 299u);
  EXPECT_EQ(first->tokens, again->tokens);
  EXPECT_EQ(plain->tokens, back->tokens);
  EXPECT_NE(plain->tokens, first->tokens);
}

TEST(EnginePrompts, ThoseThatMemoryRunsShortForGoOnLater) {
  for (const spec::ModelSpec& spec : {Model::wide_context(), with_latents()}) {
    Model model(spec);
    Random random(7);
    std::vector<Request> requests;
    for (size_t i = 0; i < 6; ++i) requests.push_back(request_of(random_tokens(200, random), 300));
    std::vector<std::vector<int32_t>> alone;
    for (const Request& request : requests) alone.push_back(model.alone(request));
    Engine engine(model.transformer, {.context = 512, .max_running = 6, .cache_tokens = 1024});
    std::vector<std::shared_ptr<Heard>> heard;
    for (const Request& request : requests) engine.submit(copy_of(request), heard.emplace_back(std::make_shared<Heard>()));
    for (size_t i = 0; i < requests.size(); ++i) ASSERT_EQ(heard[i]->wait().tokens, alone[i]) << i;
    EXPECT_GT(engine.statistics().preemptions, 0u);
  }
}

TEST(EnginePrompts, WhatIsKnownSurvivesARestart) {
  for (const spec::ModelSpec& spec : {Model::wide_context(), with_latents()}) {
    Model model(spec);
    const fs::path file = model.folder / "prompts";
    Random random(8);
    std::vector<Request> requests;
    const auto shared = random_tokens(400, random);
    for (size_t i = 0; i < 5; ++i) {
      std::vector<int32_t> prompt = shared;
      const auto own = random_tokens(100 * i + 50, random);
      prompt.insert(prompt.end(), own.begin(), own.end());
      requests.push_back(request_of(prompt, 30));
    }
    std::vector<std::vector<int32_t>> before;
    const auto ask_all = [&](Engine& engine, bool is_known) {
      for (size_t i = 0; i < requests.size(); ++i) {
        const auto heard = std::make_shared<Heard>();
        engine.submit(copy_of(requests[i]), heard);
        heard->wait();
        if (!is_known) before.push_back(heard->tokens);
        EXPECT_EQ(heard->tokens, before[i]);
        if (is_known) {
          EXPECT_EQ(heard->outcome.cached_tokens, requests[i].prompt.size() - 1);
        }
      }
    };
    {
      Engine engine(model.transformer, {.max_running = 4});
      ask_all(engine, false);
      while (engine.statistics().running > 0) std::this_thread::yield();
      engine.save_prompts(file);
    }
    {
      Engine engine(model.transformer, {.max_running = 4});
      engine.load_prompts(file);
      ask_all(engine, true);
    }
    {
      Engine small(model.transformer, {.context = 600, .max_running = 1, .cache_tokens = 1024});
      small.load_prompts(file);  // as much as there is room for
      const auto heard = std::make_shared<Heard>();
      small.submit(copy_of(requests[0]), heard);
      EXPECT_EQ(heard->wait().tokens, before[0]);
    }
    // Every byte counts, and what was cut off is missed.
    const std::string good = read_file(file);
    Engine engine(model.transformer, {.max_running = 4});
    for (int i = 0; i < 60; ++i) {
      std::string bad = good;
      if (i % 2 == 0) bad.resize(random.below(good.size()));
      else bad[random.below(good.size())] ^= 1;
      write_file(file, bad);
      EXPECT_THROW(engine.load_prompts(file), Error);
    }
    write_file(file, good);
    EXPECT_NO_THROW(engine.load_prompts(file));
  }
}

TEST(EnginePrompts, PromptsOfAnotherModelAreRefused) {
  spec::ModelSpec spec = Model::wide_context();
  Model model(spec);
  spec.norm_eps *= 2;
  Model other(spec);
  const fs::path file = model.folder / "prompts";
  Engine(model.transformer, {}).save_prompts(file);
  Engine engine(other.transformer, {});
  EXPECT_THROW(engine.load_prompts(file), Error);
  EXPECT_THROW(engine.load_prompts(model.folder / "none"), Error);
}

}  // namespace
}  // namespace moiety::engine
