// Every layout, one loss: random layouts of up to eight ranks, in stages that share experts, dense matrices and sequences among them, held to one
// process: the loss, each weight's gradient, the norm, and the loss of text that nothing is learnt from.
#include <gtest/gtest.h>
#include <omp.h>

#include <mutex>

#include "base/random.h"
#include "support/random_batch.h"
#include "support/random_homes.h"
#include "support/rank_threads.h"
#include "train/optimizer.h"
#include "train/pipeline.h"
#include "train/rank_layout.h"

namespace moiety::train {
namespace {

using spec::Gate;

struct Model {
  const char* name;
  void (*change)(spec::ModelSpec&);
  bool hands_on = false;  // layers leave more than hidden states
};
constexpr Model kModels[] = {
    {"plain", [](spec::ModelSpec&) {}},
    {"gating residual", [](spec::ModelSpec& s) { s.moe.router.gating_residual = true; }, true},
    {"momentum", [](spec::ModelSpec& s) { s.moe.momentum = {.kind = spec::Momentum::Adam, .decay = 0.7f}; }, true},
    {"heavy ball", [](spec::ModelSpec& s) { s.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.7f}; }, true},
    {"recurrent gate", [](spec::ModelSpec& s) { s.moe.router.gate = Gate::Recurrent, s.moe.router.gate_width = 6; }, true},
    {"gate ahead", [](spec::ModelSpec& s) { s.moe.router.gate = Gate::Ahead; }, true},
    {"decoupled gate", [](spec::ModelSpec& s) { s.moe.router.gate = Gate::Decoupled, s.moe.router.gate_width = 6; }, true},
    {"hash gate", [](spec::ModelSpec& s) { s.moe.router.gate = Gate::Hash; }},
    {"attention experts", [](spec::ModelSpec& s) { s.attention.experts = spec::AttentionExperts{5, 2}, s.attention.num_kv_heads = 1; }},
    {"a chain", [](spec::ModelSpec& s) { s.moe.iterations = 2; }},
    {"unlike layers", [](spec::ModelSpec& s) {
       for (int layer = 0; layer < s.num_layers; ++layer) s.moe.experts_L.push_back(s.feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Moe ? 3 + layer : 0);
       s.moe.router.num_experts = std::ranges::max(s.moe.experts_L);
     }},
};

// What ranks that share dense matrices can train. Momentum of Adam divides by roots of squares, which enlarges the rounding of sums made in
// another order: not by much with this eps.
constexpr Model kSharedModels[] = {
    {"plain", [](spec::ModelSpec&) {}},
    {"shared experts", [](spec::ModelSpec& s) { s.moe.shared_hidden = 13, s.moe.shared_gate = true; }},
    {"shared mix", [](spec::ModelSpec& s) { s.moe.shared_hidden = 9, s.moe.shared_mix = true; }},
    {"a chain", [](spec::ModelSpec& s) { s.moe.iterations = 3, s.moe.shared_hidden = 8; }},
    {"sticks", [](spec::ModelSpec& s) { s.attention.weigh = spec::AttentionWeigh::StickBreaking; }},
    {"heavy ball", [](spec::ModelSpec& s) { s.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.7f}; }, true},
    {"momentum", [](spec::ModelSpec& s) { s.moe.momentum = {.kind = spec::Momentum::Adam, .decay = 0.7f, .eps = 1e-2f}; }, true},
    {"random gate", [](spec::ModelSpec& s) { s.moe.router.gate = Gate::Random; }},
    {"sparse mixer", [](spec::ModelSpec& s) {
       s.moe.router.score = spec::Score::Logits, s.moe.router.weigh = spec::Weigh::SparseMixer, s.moe.router.renormalise = false;
       s.moe.router.experts_per_token = 1;
     }},
    {"decoupled gate", [](spec::ModelSpec& s) { s.moe.router.gate = Gate::Decoupled, s.moe.router.gate_width = 6; }, true},
    {"free experts", [](spec::ModelSpec& s) { s.moe.router.zero_experts = s.moe.router.copy_experts = s.moe.router.null_experts = 1; }},
};

spec::ModelSpec random_spec(Random& random) {
  spec::ModelSpec s{.family = "moiety", .num_layers = 4 + static_cast<int>(random.below(4)), .width = 16, .vocab_size = 40, .max_positions = 64};
  s.attention = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .qk_norm = spec::QkNorm::PerHead};
  s.moe = {.router = {.num_experts = 3 + static_cast<int>(random.below(8)), .experts_per_token = 1 + static_cast<int>(random.below(3))}, .expert_hidden = 10};
  s.dense_hidden = 20;
  s.tied_embeddings = random.below(2) == 0;
  s.feed_forward.assign(static_cast<size_t>(s.num_layers), spec::FeedForward::Moe);
  for (auto& kind : s.feed_forward) {
    if (random.below(4) == 0) kind = spec::FeedForward::Dense;
  }
  s.feed_forward[1] = spec::FeedForward::Moe;
  return s;
}

struct Case {
  TrainConfig::Ranks layout;
  int ranks = 1;
  bool moved = false;  // experts live somewhere
  spec::ModelSpec spec;
  Mode mode;
  PassOrder order;
  std::vector<Batch> passes;
  TrainConfig::Optimizer optimizer;
};

struct Learnt {
  double loss = 0, norm = 0, held_out = 0;
  std::vector<float> gradients;  // laid out as one process's weights
};

constexpr LossWeights kLosses{.balance = 0.5f, .z = 0.1f, .spread = 0.2f};

double loss_of(const TrainedMicroBatch& done, double tokens, double targets) {
  return targets * done.cross_entropy + tokens * (kLosses.balance * done.balance + kLosses.z * done.z + kLosses.spread * done.spread);
}

// One pass after the other.
void train_in_turn(Transformer& model, std::span<const Pipeline::Pass> passes, PassOrder order, float share, const Pipeline::Passed& passed) {
  moe::Load choices(static_cast<int>(routers_of(model.spec()).size()), model.spec().moe.router.num_choices());
  if (order.scope == BalanceScope::Global) order.others = &choices;
  for (size_t i = 0; i < passes.size(); ++i) {
    const TrainedMicroBatch done = train_micro_batch(model, passes[i].batch, passes[i].weights, order, share);
    for (size_t router = 0; router < done.passes[0].routes.size(); ++router) choices.add_choices(static_cast<int>(router), done.passes[0].routes[router]->plan->routing);
    passed(i, done);
  }
}

Learnt of_one(const Case& of) {
  Weights weights(of.spec);
  weights.initialise(of.spec, 3);
  Transformer model(of.spec, weights, of.mode);
  Learnt learnt;
  std::vector<Pipeline::Pass> passes;
  for (const Batch& batch : of.passes) passes.push_back({batch, kLosses});
  const float share = 1.0f / static_cast<float>(passes.size());
  train_in_turn(model, passes, of.order, share, [&](size_t, const TrainedMicroBatch& done) { learnt.loss += share * loss_of(done, 1, 1); });
  {
    const torch::NoGradGuard no_graph;
    learnt.held_out = model.forward(of.passes[0], {}).cross_entropy;
  }
  learnt.gradients.assign(weights.gradients().begin(), weights.gradients().end());
  learnt.norm = Optimizer(of.optimizer, weights).step(0, 0.001);
  return learnt;
}

void sum_gradients(Weights& weights, comm::Mesh& mesh) {
  const auto sum = [&](Stretch held, comm::Group* holders) {
    if (holders != nullptr && held.size > 0) holders->sum(weights.gradients().subspan(held.begin, held.size));
  };
  sum(weights.dense(Holders::EveryStage), &mesh.all());
  sum(weights.dense(Holders::BothEnds), mesh.both_ends());
  sum(weights.dense(Holders::OneStage), mesh.same_dense());
  sum(weights.sliced(), mesh.same_tensor());
  sum(weights.experts(), mesh.same_experts());
}

// Gathered into what one process would have. All that several ranks hold must be alike on them.
Learnt of_ranks(const Case& of) {
  const Weights whole(of.spec);
  Learnt learnt{.gradients = std::vector<float>(whole.values().size(), std::nanf(""))};
  std::vector<float> values(whole.values().size(), std::nanf(""));
  std::mutex mutex;
  test::on_ranks(of.ranks, [&](comm::Group& group) {
    omp_set_num_threads(1);
    RankLayout layout(of.layout, &group);
    Weights weights(of.spec, layout.expert_share(), layout.stage_share(), layout.tensor_share());
    if (Random same(8); of.moved) {
      for (const auto& [layer, homes] : test::random_changes(of.spec, weights, same).placement_L) weights.place(layer, homes);
    }
    weights.initialise(of.spec, 3);
    Transformer model(of.spec, weights, of.mode, layout.experts(), layout.tensor());
    Pipeline pipeline(model, *layout.mesh(), layout.stage_share());

    PassOrder order = of.order;
    order.sum_over_ranks = layout.sum_in_stage();
    std::vector<Pipeline::Pass> passes;
    std::vector<std::pair<float, float>> shares;
    for (const Batch& batch : of.passes) {
      Batch mine = layout.part_of(batch);
      const float tokens = static_cast<float>(mine.num_tokens()) / static_cast<float>(batch.num_tokens());
      const float targets = static_cast<float>(mine.num_targets()) / static_cast<float>(batch.num_targets());
      passes.push_back({std::move(mine), kLosses.of_part(tokens, targets)});
      shares.emplace_back(tokens, targets);
    }
    std::array losses{0.0, 0.0};
    const float share = 1.0f / static_cast<float>(passes.size());
    const Pipeline::Passed passed = [&](size_t i, const TrainedMicroBatch& done) { losses[0] += share * loss_of(done, shares[i].first, shares[i].second); };
    pipeline.train(passes, order, share, passed);
    losses[1] = shares[0].second * pipeline.forward(passes[0].batch, nullptr, {}).cross_entropy;
    group.sum(losses);

    const std::vector<float> own(weights.gradients().begin(), weights.gradients().end());
    sum_gradients(weights, *layout.mesh());
    const std::vector<float> summed(weights.gradients().begin(), weights.gradients().end());
    std::ranges::copy(own, weights.gradients().begin());  // the optimizer sums by itself
    const double norm = Optimizer(of.optimizer, weights, {}, layout.mesh()).step(0, 0.001);

    const std::lock_guard lock(mutex);
    EXPECT_TRUE(learnt.norm == 0 || learnt.norm == norm);
    learnt = {losses[0], norm, losses[1], std::move(learnt.gradients)};
    for (size_t i = 0; i < weights.entries().size(); ++i) {
      const Weights::Entry &here = weights.entries()[i], &there = whole.entries()[i];
      const auto put = [&](std::span<const float> mine, std::span<float> all) {
        std::vector<float> before(here.size);
        here.part().take(std::span<const float>(all.subspan(there.begin, there.size)), std::span(before));
        const auto part = mine.subspan(here.begin, here.size);
        const bool is_alike = here.size == 0 || std::isnan(before[0]) || std::ranges::equal(before, part);
        EXPECT_TRUE(is_alike) << here.name;
        here.part().put(part, all.subspan(there.begin, there.size));
      };
      put(summed, learnt.gradients);
      put(std::as_const(weights).values(), values);
    }
  });
  EXPECT_TRUE(std::ranges::none_of(values, [](float x) { return std::isnan(x); })) << "nobody has it";
  return learnt;
}

void expect_as_one(const Case& of) {
  constexpr double kTolerance = 1e-5;
  const Learnt expected = of_one(of), found = of_ranks(of);
  EXPECT_NEAR(found.loss, expected.loss, kTolerance * std::abs(expected.loss));
  EXPECT_NEAR(found.norm, expected.norm, kTolerance * expected.norm);
  EXPECT_NEAR(found.held_out, expected.held_out, kTolerance * expected.held_out);
  const Weights whole(of.spec);
  for (const Weights::Entry& entry : whole.entries()) {
    double largest = 1e-3, apart = 0;
    for (size_t i = entry.begin; i < entry.begin + entry.size; ++i) {
      largest = std::max<double>(largest, std::abs(expected.gradients[i]));
      apart = std::max<double>(apart, std::abs(expected.gradients[i] - found.gradients[i]));
    }
    EXPECT_LE(apart, kTolerance * largest) << entry.name;
  }
}

int64_t random_divisor(int number, Random& random) {
  int divisor;
  do divisor = 1 + static_cast<int>(random.below(static_cast<uint64_t>(number)));
  while (number % divisor != 0);
  return divisor;
}

void add_passes(Case& c, const Model& model, Random& random) {
  c.moved = random.below(2) == 0;
  c.order.recompute_layers = !model.hands_on && random.below(2) == 0;
  c.mode.keep = random.below(2) == 0 ? Keep::Products : Keep::Inputs;
  const auto stages = static_cast<uint64_t>(c.layout.stages);
  const uint64_t passes = c.layout.virtual_stages == 1 ? 1 + random.below(5) : stages * (1 + random.below(2));
  for (uint64_t i = 0; i < passes; ++i) c.passes.push_back(test::random_batch(c.spec, 1 + random.below(5), random));
}

Case random_case(const Model& model, Random& random) {
  Case c{.spec = random_spec(random)};
  model.change(c.spec);
  spec::check(c.spec, model.name);
  TrainConfig::Ranks& l = c.layout;
  l.stages = 1 + static_cast<int64_t>(random.below(4));
  if (l.stages > 1 && 2 * l.stages <= c.spec.num_layers) l.virtual_stages = 1 + static_cast<int64_t>(random.below(2));
  const int a_stage = random.below(4) == 0 ? 1 : 1 + static_cast<int>(random.below(static_cast<uint64_t>(8 / l.stages)));
  c.ranks = static_cast<int>(l.stages) * a_stage;
  l.experts = random_divisor(a_stage, random);
  l.sequence = random_divisor(a_stage, random);
  l.chunks = 1 + static_cast<int64_t>(random.below(2));

  c.order.scope = (BalanceScope[]){BalanceScope::Micro, BalanceScope::Sequence, BalanceScope::Global}[random.below(l.sequence > 1 ? 1 : 3)];
  if (l.sequence > 1 && random.below(2) == 0) c.order.scope = BalanceScope::Global;
  c.optimizer = {.state = random.below(3) == 0 ? "factored" : "f32", .shared = random.below(2) == 0};
  add_passes(c, model, random);
  return c;
}

// Of ranks that share matrices, and experts in a way that knows nothing of it; neither heads nor hidden units are always multiples.
Case random_sharing(const Model& model, Random& random) {
  const auto below = [&](int64_t n) { return static_cast<int>(random.below(static_cast<uint64_t>(n))); };
  Case c{.spec = random_spec(random)};
  TrainConfig::Ranks& l = c.layout;
  l.stages = 1 + below(3);
  if (l.stages > 1 && 2 * l.stages <= c.spec.num_layers) l.virtual_stages = 1 + below(2);
  const int64_t most = 8 / l.stages;
  l.tensor = 2 + below(std::min<int64_t>(3, most - 1));
  const int64_t a_stage = l.tensor * (1 + below(most / l.tensor));
  c.ranks = static_cast<int>(l.stages * a_stage);
  l.experts = random_divisor(static_cast<int>(a_stage), random);
  l.chunks = 1 + below(2);
  l.lend = (const char*[]){"none", "hot", "all"}[below(3)];
  c.spec.attention.num_kv_heads = static_cast<int>(l.tensor) + below(2);
  c.spec.attention.num_heads = c.spec.attention.num_kv_heads * (1 + below(2));
  c.spec.dense_hidden = 20 + below(3);
  if (below(2) == 0) c.spec.attention.qk_norm = spec::QkNorm::None;
  model.change(c.spec);
  spec::check(c.spec, model.name);
  const bool draws = c.spec.moe.router.gate == Gate::Random || c.spec.moe.router.weigh == spec::Weigh::SparseMixer;
  const bool wants_whole = draws || c.spec.attention.weigh == spec::AttentionWeigh::StickBreaking;
  if (!wants_whole) l.sequence = random_divisor(static_cast<int>(a_stage / l.tensor), random);
  c.order.scope = below(2) == 0 ? BalanceScope::Micro : BalanceScope::Global;
  c.optimizer = {.shared = below(2) == 0};
  add_passes(c, model, random);
  for (Batch& batch : c.passes) batch.draw = draws ? 77 : 0;
  return c;
}

std::string described(const Case& c, const Model& model) {
  return fmt::format("{} ranks: {} stages of {} chunks, {} share experts (lend {}, moved {}), {} matrices, {} sequences; {} passes, {} layers, recomputed {}: {}", c.ranks,
                     c.layout.stages, c.layout.virtual_stages, c.layout.experts, c.layout.lend, c.moved, c.layout.tensor, c.layout.sequence, c.passes.size(),
                     c.spec.num_layers, c.order.recompute_layers, model.name);
}

TEST(Layouts, EveryOneLearnsWhatOneProcessDoes) {
  Random random(23);
  for (size_t i = 0; i < 24; ++i) {
    const Model& model = kModels[i % std::size(kModels)];
    const Case c = random_case(model, random);
    SCOPED_TRACE(described(c, model));
    expect_as_one(c);
  }
}

TEST(Layouts, RanksThatShareMatricesLearnWhatOneProcessDoes) {
  Random random(29);
  for (size_t i = 0; i < 22; ++i) {
    const Model& model = kSharedModels[i % std::size(kSharedModels)];
    const Case c = random_sharing(model, random);
    SCOPED_TRACE(described(c, model));
    expect_as_one(c);
  }
}

}  // namespace
}  // namespace moiety::train
