#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/random.h"
#include "support/random_model.h"

namespace moiety::engine {
namespace {

// A scheduler and sequences that "compute" by telling their caches so.
class Runs {
 public:
  Runs(size_t cache_tokens, const Scheduler::Options& options)
      : spec_(make_spec()), room_(spec_, {.context = 2048, .cache_tokens = cache_tokens}), scheduler_(room_, options), options_(options) {}

  uint64_t ask(std::vector<int32_t> prompt, size_t tokens, int priority = 0, const std::string& client = "") {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = ++last_;
    sequence->tokens = sequence->request.prompt = std::move(prompt);
    sequence->request.max_new_tokens = tokens;
    sequence->request.priority = priority;
    sequence->request.client = client;
    scheduler_.add(std::move(sequence));
    return last_;
  }

  // Who had a turn, with how many tokens. Checks what every step must keep to.
  std::map<uint64_t, size_t> step() {
    std::set<uint64_t> answering;
    for (const auto& s : scheduler_.running()) {
      if (s->is_decoding()) answering.insert(s->id);
    }
    const uint64_t preemptions = scheduler_.preemptions();
    const std::vector<Turn> turns = scheduler_.next(watch_);
    std::map<uint64_t, size_t> had;
    size_t tokens = 0;
    for (const Turn& turn : turns) {
      Sequence& s = *turn.sequence;
      EXPECT_TRUE(had.emplace(s.id, turn.tokens).second) << "two turns in a step";
      EXPECT_GE(turn.tokens, 1u);
      EXPECT_LE(turn.tokens, s.left());
      EXPECT_EQ(turn.is_rest, turn.tokens == s.left());
      tokens += turn.tokens;
      EXPECT_TRUE(s.cache->reserve(turn.tokens + turn.drafted.size())) << "no room for what is to be computed";
    }
    EXPECT_LE(tokens, options_.step_tokens);
    EXPECT_LE(scheduler_.running().size(), options_.max_running);
    if (scheduler_.preemptions() == preemptions) {
      for (const uint64_t id : answering) EXPECT_TRUE(had.contains(id)) << "an answer was held up";
    }
    for (const Turn& turn : turns) {
      Sequence& s = *turn.sequence;
      s.cache->advance(turn.tokens);
      scheduler_.charge(s.request.client, turn.tokens);
      if (turn.is_rest) s.tokens.push_back(static_cast<int32_t>(1000 + s.id));
    }
    std::vector<uint64_t> through;
    for (const auto& s : scheduler_.running()) {
      if (s->said().size() == s->request.max_new_tokens) through.push_back(s->id);
    }
    for (const uint64_t id : through) end(id);
    return had;
  }

  void end(uint64_t id) {
    const auto sequence = scheduler_.remove(id);
    ASSERT_NE(sequence, nullptr);
    if (sequence->cache) room_.put_aside(*sequence);
  }

  Scheduler& scheduler() { return scheduler_; }
  CacheRoom& room() { return room_; }

 private:
  static spec::ModelSpec make_spec() {
    spec::ModelSpec spec = test::small_spec();
    spec.max_positions = 2048;
    return spec;
  }

  spec::ModelSpec spec_;
  CacheRoom room_;
  Scheduler scheduler_;
  SpeculationWatch watch_;
  Scheduler::Options options_;
  uint64_t last_ = 0;
};

std::vector<int32_t> prompt_of(size_t tokens, int32_t first) {
  std::vector<int32_t> prompt;
  for (size_t i = 0; i < tokens; ++i) prompt.push_back(first + static_cast<int32_t>(i));
  return prompt;
}

TEST(Scheduler, EveryoneComesToAnEndWhateverComesAndGoes) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const Scheduler::Options options{.max_running = 1 + random.below(6), .step_tokens = 40 + random.below(300), .speculate = false};
    Runs runs(2048 + 256 * random.below(8), options);
    std::set<uint64_t> alive;
    size_t asked = 0, steps = 0;
    while (asked < 25 || !runs.scheduler().idle()) {
      if (asked < 25 && random.below(3) == 0) {
        ++asked;
        alive.insert(runs.ask(prompt_of(1 + random.below(900), static_cast<int32_t>(100 * random.below(5))), 1 + random.below(200),
                              static_cast<int>(random.below(3)), std::to_string(random.below(3))));
      }
      if (!alive.empty() && random.below(20) == 0) {
        const uint64_t id = *std::next(alive.begin(), static_cast<long>(random.below(alive.size())));
        if (runs.scheduler().find(id) != nullptr) runs.end(id);
        alive.erase(id);
      }
      runs.step();
      ASSERT_LT(++steps, 20000u) << "seed " << seed;
    }
    EXPECT_LE(runs.room().pool().in_use(), runs.room().pool().limit());
  }
}

TEST(Scheduler, WhoComesLaterWaitsForWhatIsBeingComputed) {
  Runs runs(8192, {.max_running = 4, .step_tokens = 64, .speculate = false});
  const auto shared = prompt_of(300, 0);
  auto first = shared, second = shared;
  first.push_back(7000);
  second.push_back(8000);
  const uint64_t a = runs.ask(first, 5), b = runs.ask(second, 5);
  runs.ask(prompt_of(100, 5000), 5);
  size_t of_b = 0;
  for (int i = 0; i < 30 && !runs.scheduler().idle(); ++i) {
    const auto had = runs.step();
    if (i == 4) {
      EXPECT_TRUE(had.contains(a));
    }
    if (had.contains(b) && of_b == 0) of_b = had.at(b);
  }
  EXPECT_EQ(of_b, 1u);  // all but its last token was known
  EXPECT_TRUE(runs.scheduler().idle());
}

TEST(Scheduler, TurnsGoByPriorityThenToWhoWasServedLeastThenByArrival) {
  Runs runs(8192, {.max_running = 1, .step_tokens = 1000, .speculate = false});
  int32_t place = 0;
  const auto ask = [&](const char* client, int priority = 0) { return runs.ask(prompt_of(50, place += 100), 1, priority, client); };
  const uint64_t a1 = ask("alice"), a2 = ask("alice"), a3 = ask("alice"), b1 = ask("bob"), c1 = ask("carol"), b2 = ask("bob"), d1 = ask("dave", 1);
  std::vector<uint64_t> begun;
  while (!runs.scheduler().idle()) {
    for (const auto& [id, tokens] : runs.step()) begun.push_back(id);
  }
  EXPECT_EQ(begun, (std::vector<uint64_t>{d1, a1, b1, c1, a2, b2, a3}));
}

TEST(Scheduler, TheLastOfTheLowestPriorityIsPutAside) {
  Runs runs(1024, {.max_running = 4, .step_tokens = 1000, .speculate = false});  // four pages
  const uint64_t low = runs.ask(prompt_of(200, 0), 400, 0), high = runs.ask(prompt_of(200, 1000), 400, 1),
                 also_low = runs.ask(prompt_of(200, 2000), 400, 0);
  while (runs.scheduler().preemptions() == 0) runs.step();
  const auto is_running = [&](uint64_t id) {
    return std::ranges::any_of(runs.scheduler().running(), [&](const auto& s) { return s->id == id; });
  };
  EXPECT_FALSE(is_running(also_low));
  EXPECT_TRUE(is_running(low));
  EXPECT_TRUE(is_running(high));
}

}  // namespace
}  // namespace moiety::engine
