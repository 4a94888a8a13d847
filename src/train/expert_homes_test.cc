#include "train/expert_homes.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <unistd.h>

#include <mutex>

#include "support/random_batch.h"
#include "support/random_homes.h"
#include "support/rank_threads.h"
#include "train/checkpoint.h"
#include "train/checkpoint_writer.h"
#include "train/micro_batch.h"
#include "train/rank_layout.h"
#include "train/snapshots.h"
#include "train/transformer.h"

namespace moiety::train {
namespace {

spec::ModelSpec small_spec(int experts, int hidden) {
  spec::ModelSpec s{.family = "moiety", .num_layers = 3, .width = 16, .vocab_size = 40, .max_positions = 64};
  s.attention = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .qk_norm = spec::QkNorm::PerHead};
  s.moe = {.router = {.num_experts = experts, .experts_per_token = 2}, .expert_hidden = hidden};
  s.dense_hidden = 20;
  s.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
  return s;
}

struct Folder {
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
  fs::path path = fs::temp_directory_path() / fmt::format("moiety-expert-homes-{}", ::getpid());
};

// A function of the weight and of the step; `whole`: laid out as one process has them.
void set_gradients(Weights& weights, const Weights& whole, int step) {
  for (size_t i = 0; i < weights.entries().size(); ++i) {
    const Weights::Entry &here = weights.entries()[i], &there = whole.entries()[i];
    std::vector<float> gradient(there.size);
    Random random(9, i, static_cast<uint64_t>(step) << 32);
    for (float& x : gradient) x = static_cast<float>(random.uniform() - 0.5);
    here.part().take(std::span<const float>(gradient), weights.gradients().subspan(here.begin, here.size));
  }
}

RunState state_after(int step) { return {.step = step, .steps = 9, .domains = Json::array()}; }

// With the same gradients, the files of a run in which experts move after each step are those of one process, to the bit: whatever form moments have,
// shared out among replicas or not, experts of two kinds, one writer throughout.
TEST(ExpertHomes, CheckpointsAreThoseOfARunWithoutMoves) {
  struct Case {
    const char *state, *offload;
    int ranks, sharing, experts;
    bool shared;
  };
  constexpr int kSteps = 3;
  for (const Case& c : {Case{"f32", "none", 3, 3, 7, true}, {"f32", "none", 4, 2, 7, true}, {"f32", "none", 4, 2, 5, false}, {"f32", "ssd", 4, 4, 11, true},
                        {"int8", "none", 4, 2, 7, true}, {"factored", "none", 4, 2, 7, true}, {"f32", "none", 4, 4, 3, true}}) {
    SCOPED_TRACE(fmt::format("{} {}, {} ranks, {} share {} experts", c.state, c.offload, c.ranks, c.sharing, c.experts));
    const Folder folder;
    spec::ModelSpec spec = small_spec(c.experts, /*hidden=*/32);  // matrices of whole blocks of 8 bits
    if (c.state != std::string("int8")) spec.moe.gru_experts = c.experts / 3, spec.moe.gru_hidden = 6;
    const Weights whole(spec);
    const TrainConfig::Optimizer config{.clip = 0, .state = c.state, .shared = c.shared, .offload = c.offload, .group = 700};
    fs::create_directories(folder.path);
    {
      Weights weights(spec);
      weights.initialise(spec, 3);
      Optimizer optimizer(config, weights, folder.path);
      CheckpointWriter writer({folder.path / "one", {}}, kSteps, spec);
      for (int step = 0; step < kSteps; ++step) {
        set_gradients(weights, whole, step);
        writer.let_go();
        optimizer.step(step, 0.01);
        writer.begin(weights, optimizer, state_after(step + 1));
      }
      writer.finish();
    }
    test::on_ranks(c.ranks, [&](comm::Group& group) {
      omp_set_num_threads(1);
      RankLayout layout({.experts = c.sharing}, &group);
      Weights weights(spec, layout.expert_share());
      weights.initialise(spec, 3);
      Optimizer optimizer(config, weights, folder.path, layout.mesh());
      CheckpointWriter writer({folder.path / "ranks", {}}, kSteps, spec, &group);
      Random same(static_cast<uint64_t>(c.experts));
      for (int step = 0; step < kSteps; ++step) {
        // Of replicas' gradients, which are summed up, all but one's are nothing.
        set_gradients(weights, whole, step);
        const auto nothing = [&](Stretch held) { std::ranges::fill(weights.gradients().subspan(held.begin, held.size), 0.0f); };
        if (group.rank() >= c.sharing) nothing(weights.experts());
        if (!group.is_first()) nothing({0, weights.experts().begin});
        writer.let_go();
        optimizer.step(step, 0.01);
        move_experts(test::random_changes(spec, weights, same), weights, optimizer, group);
        writer.lay_out_anew();
        writer.begin(weights, optimizer, state_after(step + 1));
      }
      writer.finish();
    });
    for (int step = 1; step <= kSteps; ++step) {
      for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
        const auto bytes = [&](const char* run) { return read_file(checkpoint_path(folder.path / run, step) / name); };
        EXPECT_TRUE(bytes("one") == bytes("ranks")) << name << " after step " << step;
      }
    }
  }
}

struct Learnt {
  std::vector<double> losses, norms;
  std::vector<float> values;  // laid out as one process's weights
};

struct TestRun {
  spec::ModelSpec spec;
  TrainConfig::Ranks ranks;
  int size = 1;
  TrainConfig::Optimizer optimizer;
  std::vector<Batch> steps;
  bool moves = false;
};

// A rank's steps. After the middle one it goes on from a checkpoint, with experts where they are at first.
void train_rank(const TestRun& run, comm::Group* group, const fs::path& folder, const Weights& whole, Learnt& learnt, std::mutex& mutex) {
  omp_set_num_threads(1);
  RankLayout layout(run.ranks, group);
  Random same(4);
  const size_t half = run.steps.size() / 2;
  for (const auto& [first, end] : {std::pair(size_t{0}, half), std::pair(half, run.steps.size())}) {
    Weights weights(run.spec, layout.expert_share(), layout.stage_share(), layout.tensor_share());
    Optimizer optimizer(run.optimizer, weights, folder, layout.mesh());
    if (first == 0) weights.initialise(run.spec, 3);
    else EXPECT_EQ(read_checkpoint(checkpoint_path(folder, static_cast<int64_t>(half)), run.spec, weights, optimizer).step, static_cast<int64_t>(half));
    Transformer model(run.spec, weights, {}, layout.experts(), layout.tensor());
    for (size_t step = first; step < end; ++step) {
      const Batch& batch = run.steps[step];
      const Batch mine = layout.part_of(batch);
      const float tokens = static_cast<float>(mine.num_tokens()) / static_cast<float>(batch.num_tokens());
      const float targets = static_cast<float>(mine.num_targets()) / static_cast<float>(batch.num_targets());
      const Losses losses = model.forward(mine, LossWeights{.balance = 0.5f, .z = 0.1f}.of_part(tokens, targets), nullptr, {.sum_over_ranks = layout.sum()});
      losses.total.backward();
      std::array loss{losses.total.item<double>()};
      if (group != nullptr) group->sum(loss);
      const double norm = optimizer.step(static_cast<int64_t>(step), 0.01);
      if (run.moves) move_experts(test::random_changes(run.spec, weights, same), weights, optimizer, *group);
      if (group != nullptr && !group->is_first()) continue;
      learnt.losses.push_back(loss[0]);
      learnt.norms.push_back(norm);
    }
    if (first == 0) {
      CheckpointWriter writer({folder, {}}, 1, run.spec, group);
      writer.begin(weights, optimizer, state_after(static_cast<int>(half)));
      writer.finish();
    }
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < weights.entries().size(); ++i) {
      const Weights::Entry &here = weights.entries()[i], &there = whole.entries()[i];
      here.part().put(std::as_const(weights).values().subspan(here.begin, here.size), std::span(learnt.values).subspan(there.begin, there.size));
    }
  }
}

Learnt train(const TestRun& run) {
  const Folder folder;
  fs::create_directories(folder.path);
  const Weights whole(run.spec);
  Learnt learnt{.values = std::vector<float>(whole.values().size())};
  std::mutex mutex;
  if (run.size == 1) train_rank(run, nullptr, folder.path, whole, learnt, mutex);
  else test::on_ranks(run.size, [&](comm::Group& group) { train_rank(run, &group, folder.path, whole, learnt, mutex); });
  return learnt;
}

// Losses, norms and weights after steps with a move behind each and a resumption in the middle, in layouts by chance.
TEST(ExpertHomes, RunsWithMovesLearnWhatOneProcessDoes) {
  constexpr double kTolerance = 1e-5;
  Random random(12);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random.below(static_cast<uint64_t>(n))); };
  for (int i = 0; i < 12; ++i) {
    // With so large an eps rounding is not enlarged where gradients are small.
    TestRun run{.spec = small_spec(3 + static_cast<int>(below(9)), 10), .optimizer = {.eps = 0.1, .clip = below(2) == 0 ? 0.0 : 0.5, .shared = below(2) == 0}};
    run.size = 2 + static_cast<int>(below(3));
    run.moves = true;
    run.ranks.experts = run.size == 4 && below(2) == 0 ? 2 : run.size;
    run.ranks.tensor = run.size % 2 == 0 && below(2) == 0 ? 2 : 1;
    run.ranks.chunks = 1 + below(3);
    run.ranks.lend = (const char*[]){"none", "hot", "all"}[below(3)];
    run.ranks.flops_a_byte = 1;
    for (int step = 0; step < 6; ++step) run.steps.push_back(test::random_batch(run.spec, 1 + random.below(5), random));
    SCOPED_TRACE(fmt::format("{} ranks, {} share {} experts, {} matrices, {} chunks, lend {}, moments shared out {}", run.size, run.ranks.experts,
                             run.spec.moe.router.num_experts, run.ranks.tensor, run.ranks.chunks, run.ranks.lend, run.optimizer.shared));
    TestRun alone = run;
    alone.ranks = {}, alone.size = 1, alone.moves = false;
    const Learnt expected = train(alone), found = train(run);
    ASSERT_EQ(found.losses.size(), run.steps.size());
    for (size_t step = 0; step < run.steps.size(); ++step) {
      EXPECT_NEAR(found.losses[step], expected.losses[step], kTolerance * std::abs(expected.losses[step]));
      EXPECT_NEAR(found.norms[step], expected.norms[step], kTolerance * expected.norms[step]);
    }
    double apart = 0, largest = 0;
    for (size_t n = 0; n < expected.values.size(); ++n) {
      apart = std::max<double>(apart, std::abs(found.values[n] - expected.values[n]));
      largest = std::max<double>(largest, std::abs(expected.values[n]));
    }
    EXPECT_LE(apart, kTolerance * largest);
  }
}

// Each snapshot is of where experts were when it was made: two of them, a move between, and both can be gone back to.
TEST(ExpertHomes, SnapshotsFollow) {
  const spec::ModelSpec spec = small_spec(7, 10);
  const Weights whole(spec);
  test::on_ranks(3, [&](comm::Group& group) {
    omp_set_num_threads(1);
    RankLayout layout({.experts = 3}, &group);
    Weights weights(spec, layout.expert_share());
    weights.initialise(spec, 3);
    Optimizer optimizer({.clip = 0}, weights, {}, layout.mesh());
    Snapshots snapshots;
    Random same(3);
    std::vector<std::vector<float>> values_S;
    std::vector<HomeChanges> changes_S;
    for (int step = 0; step < 2; ++step) {
      set_gradients(weights, whole, step);
      if (!group.is_first()) std::ranges::fill(weights.gradients().first(weights.experts().begin), 0.0f);
      optimizer.step(step, 0.01);
      changes_S.push_back(test::random_changes(spec, weights, same));
      move_experts(changes_S.back(), weights, optimizer, group);
      snapshots.lay_out(state_tensors(weights, optimizer), group);
      snapshots.commit(step + 1, state_tensors(weights, optimizer), Json::object(), group);
      values_S.emplace_back(std::as_const(weights).values().begin(), std::as_const(weights).values().end());
    }
    for (int64_t step = 1; step <= 2; ++step) {
      // Into a run that begins anew, where experts are neighbours.
      Weights other(spec, layout.expert_share());
      Optimizer another({.clip = 0}, other, {}, layout.mesh());
      const auto restored = snapshots.restore(step, state_tensors(other, another), group);
      ASSERT_TRUE(restored);
      other.read(restored->tensors, "a step", other.values());
      another.read_state(restored->tensors, "a step");
      move_experts(changes_S[static_cast<size_t>(step - 1)], other, another, group);
      EXPECT_TRUE(std::ranges::equal(std::as_const(other).values(), values_S[static_cast<size_t>(step - 1)]));
    }
  });
}

TEST(ExpertHomes, ALookIsEverySoManySteps) {
  const spec::ModelSpec spec = small_spec(4, 10);
  const Weights weights(spec, {0, 2});
  ExpertHomes homes(spec, 2, /*flops_a_byte=*/10), never(spec, 0, 10);
  moe::Load skewed(2, 4), even(2, 4);  // a swap costs 20 visits
  for (int expert = 0; expert < 4; ++expert) {
    skewed.add(1, expert, expert < 2 ? 30 : 10);
    for (int layer = 0; layer < 2; ++layer) even.add(layer, expert, 20);
  }
  EXPECT_FALSE(never.look(skewed, weights));
  EXPECT_FALSE(homes.look(skewed, weights));
  const auto changes = homes.look(skewed, weights);
  ASSERT_TRUE(changes);
  EXPECT_EQ(changes->experts, 2);
  ASSERT_EQ(changes->placement_L.size(), 1u);
  EXPECT_TRUE(changes->placement_L.contains(2));  // layer 1 is dense
  EXPECT_EQ(changes->slowest_before, 1.5);
  EXPECT_EQ(changes->slowest_after, 1);
  EXPECT_FALSE(homes.look(even, weights));
  EXPECT_FALSE(homes.look(even, weights));
  // A single skewed step of two would gain 20 visits.
  EXPECT_FALSE(homes.look(skewed, weights));
  EXPECT_FALSE(homes.look(even, weights));
}

}  // namespace
}  // namespace moiety::train
