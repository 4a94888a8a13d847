// Ranks that share experts, dense matrices and sequences, held to one process: losses, gradients, clipping norms and checkpoints of random
// layouts and blocks.
#include <gtest/gtest.h>
#include <omp.h>
#include <unistd.h>

#include <mutex>

#include "base/random.h"
#include "support/random_batch.h"
#include "support/random_homes.h"
#include "support/rank_threads.h"
#include "support/write_checkpoint.h"
#include "train/checkpoint.h"
#include "train/optimizer.h"
#include "train/rank_layout.h"
#include "train/transformer.h"

namespace moiety::train {
namespace {

using test::on_ranks;

struct Layout {
  int ranks = 2, sharing = 2, chunks = 1, node = 1;
  const char* dispatch = "all_to_all";
  bool bf16 = false;
  Lend lend = Lend::Nothing;
  int tensor = 1, sequence = 1;
  bool shared = true;  // moments
  bool moved = false;  // experts live somewhere

  TrainConfig::Ranks config() const {
    return {.sequence = sequence, .tensor = tensor, .experts = sharing, .dispatch = dispatch, .chunks = chunks, .payload = bf16 ? "bf16" : "f32", .lend = lend == Lend::Nothing ? "none" : lend == Lend::Hot ? "hot" : "all", .flops_a_byte = 1, .node = node};
  }
};

struct Block {
  const char* name;
  void (*change)(spec::ModelSpec&);
};
constexpr Block kBlocks[] = {
    {"plain", [](spec::ModelSpec&) {}},
    {"GRU experts", [](spec::ModelSpec& s) { s.moe.gru_experts = (s.moe.router.num_experts + 1) / 2, s.moe.gru_hidden = 6; }},
    {"shared experts", [](spec::ModelSpec& s) { s.moe.shared_hidden = 12, s.moe.shared_gate = true; }},
    {"shared mix", [](spec::ModelSpec& s) { s.moe.shared_hidden = 12, s.moe.shared_mix = true; }},
    {"narrow experts", [](spec::ModelSpec& s) { s.moe.expert_width = 12; }},
    {"a chain", [](spec::ModelSpec& s) { s.moe.iterations = 3; }},
    {"attention experts", [](spec::ModelSpec& s) { s.attention.experts = spec::AttentionExperts{5, 2}, s.attention.num_kv_heads = 1; }},
    {"momentum", [](spec::ModelSpec& s) { s.moe.momentum = {.kind = spec::Momentum::Adam, .decay = 0.7f}; }},
    {"free experts", [](spec::ModelSpec& s) { s.moe.router.zero_experts = s.moe.router.copy_experts = s.moe.router.null_experts = 1; }},
    {"ternary experts", [](spec::ModelSpec& s) { s.moe.ternary_experts = true; }},
    {"one expert", [](spec::ModelSpec& s) { s.moe.router.num_experts = s.moe.router.experts_per_token = 1; }},
};

spec::ModelSpec random_spec(Random& random) {
  spec::ModelSpec s{.family = "moiety", .num_layers = 2, .width = 16, .vocab_size = 40, .max_positions = 64};
  s.attention = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .qk_norm = spec::QkNorm::PerHead};
  const int experts = 2 + static_cast<int>(random.below(10));
  s.moe = {.router = {.num_experts = experts, .experts_per_token = 1 + static_cast<int>(random.below(std::min(3, experts)))}, .expert_hidden = 10};
  s.dense_hidden = 20;
  s.feed_forward.assign(2, spec::FeedForward::Moe);
  if (random.below(3) == 0) s.feed_forward[0] = spec::FeedForward::Dense;
  return s;
}

struct Learnt {
  double loss = 0, norm = 0;
  std::vector<float> gradients;  // laid out as one process's weights
};

constexpr LossWeights kLosses{.balance = 0.5f, .z = 0.1f, .spread = 0.2f};

Learnt of_one(const spec::ModelSpec& spec, const Mode& mode, const Batch& batch, const PassOrder& order) {
  Weights weights(spec);
  weights.initialise(spec, 3);
  if (mode.type == GemmType::Bf16) weights.keep_packed(spec);
  Transformer model(spec, weights, mode);
  const Losses losses = model.forward(batch, kLosses, nullptr, order);
  losses.total.backward();
  Learnt learnt{losses.total.item<double>(), 0, {weights.gradients().begin(), weights.gradients().end()}};
  learnt.norm = Optimizer({}, weights).step(0, 0.001);
  return learnt;
}

// Each on its own sequences; gathered into what one process would have.
Learnt of_ranks(const Layout& layout, const spec::ModelSpec& spec, const Mode& mode, const Batch& batch, const PassOrder& order) {
  const Weights whole(spec);
  Learnt learnt{.gradients = std::vector<float>(whole.values().size())};
  std::mutex mutex;
  on_ranks(layout.ranks, [&](comm::Group& group) {
    omp_set_num_threads(1);
    RankLayout ranks(layout.config(), &group);
    comm::Mesh& mesh = *ranks.mesh();
    Weights weights(spec, ranks.expert_share(), ranks.stage_share(), ranks.tensor_share());
    if (Random same(8); layout.moved) {
      for (const auto& [layer, homes] : test::random_changes(spec, weights, same).placement_L) weights.place(layer, homes);
    }
    weights.initialise(spec, 3);
    if (mode.type == GemmType::Bf16) weights.keep_packed(spec);
    Transformer model(spec, weights, mode, ranks.experts(), ranks.tensor());

    const Batch mine = ranks.part_of(batch);
    PassOrder mine_order = order;
    mine_order.sum_over_ranks = ranks.sum();
    const float tokens = static_cast<float>(mine.num_tokens()) / static_cast<float>(batch.num_tokens());
    const float targets = static_cast<float>(mine.num_targets()) / static_cast<float>(batch.num_targets());
    const Losses losses = model.forward(mine, kLosses.of_part(tokens, targets), nullptr, mine_order);
    losses.total.backward();
    {
      const torch::NoGradGuard no_graph;  // as validation passes
      model.forward(mine, {}, nullptr, {});
    }
    std::array loss{losses.total.item<double>()};
    group.sum(loss);
    const std::vector<float> own(weights.gradients().begin(), weights.gradients().end());
    const auto sum = [&](Stretch held, comm::Group* holders) {
      if (holders != nullptr) holders->sum(weights.gradients().subspan(held.begin, held.size));
    };
    sum(weights.dense(Holders::OneStage), mesh.same_dense());
    sum(weights.sliced(), mesh.same_tensor());
    sum(weights.experts(), mesh.same_experts());
    const std::vector<float> summed(weights.gradients().begin(), weights.gradients().end());
    // The optimizer sums by itself.
    std::ranges::copy(own, weights.gradients().begin());
    const double norm = Optimizer({.shared = layout.shared}, weights, {}, &mesh).step(0, 0.001);

    const std::lock_guard lock(mutex);
    learnt.loss = loss[0];
    learnt.norm = std::max(learnt.norm, norm);  // the same on all
    for (size_t i = 0; i < weights.entries().size(); ++i) {
      const Weights::Entry &here = weights.entries()[i], &there = whole.entries()[i];
      ASSERT_EQ(here.whole_shape, there.shape);
      here.part().put(std::span<const float>(summed).subspan(here.begin, here.size), std::span(learnt.gradients).subspan(there.begin, there.size));
    }
  });
  return learnt;
}

void expect_as_one(const Layout& layout, const spec::ModelSpec& spec, const Mode& mode, const Batch& batch, const PassOrder& order,
                   double tolerance = 1e-5) {
  const Learnt expected = of_one(spec, mode, batch, order), found = of_ranks(layout, spec, mode, batch, order);
  EXPECT_NEAR(found.loss, expected.loss, tolerance * std::abs(expected.loss));
  EXPECT_NEAR(found.norm, expected.norm, tolerance * expected.norm);
  const Weights whole(spec);
  for (const Weights::Entry& entry : whole.entries()) {
    double largest = 1e-3, apart = 0;
    for (size_t i = entry.begin; i < entry.begin + entry.size; ++i) {
      largest = std::max<double>(largest, std::abs(expected.gradients[i]));
      apart = std::max<double>(apart, std::abs(expected.gradients[i] - found.gradients[i]));
    }
    EXPECT_LE(apart, tolerance * largest) << entry.name;
  }
}

std::string described(const Layout& layout, const char* block) {
  return fmt::format("{} ranks, {} share experts, {} matrices, {} sequences, {} chunks, {}, nodes of {}, lend {}, moved {}: {}", layout.ranks, layout.sharing,
                     layout.tensor, layout.sequence, layout.chunks, layout.dispatch, layout.node, static_cast<int>(layout.lend), layout.moved, block);
}

TEST(ExpertRanks, EveryLayoutLearnsWhatOneProcessDoes) {
  Random random(17);
  for (int i = 0; i < 22; ++i) {
    const Block& block = kBlocks[static_cast<size_t>(i) % std::size(kBlocks)];
    spec::ModelSpec spec = random_spec(random);
    block.change(spec);
    Layout layout{.sharing = 2 + static_cast<int>(random.below(3)), .chunks = 1 + static_cast<int>(random.below(4))};
    layout.ranks = layout.sharing * (1 + static_cast<int>(random.below(static_cast<uint64_t>(8 / layout.sharing))));
    layout.dispatch = (const char*[]){"all_to_all", "all_gather", "two_level"}[random.below(3)];
    layout.lend = (Lend[]){Lend::Nothing, Lend::Hot, Lend::All}[random.below(3)];
    layout.node = layout.sharing % 2 == 0 ? 2 : 1;
    layout.moved = random.below(2) == 0;
    PassOrder order{.scope = random.below(2) == 0 ? BalanceScope::Micro : BalanceScope::Sequence};
    order.recompute_layers = spec.moe.momentum.kind == spec::Momentum::None && random.below(3) == 0;
    const Mode mode{.keep = random.below(2) == 0 ? Keep::Products : Keep::Inputs};
    SCOPED_TRACE(described(layout, block.name));
    expect_as_one(layout, spec, mode, test::random_batch(spec, 1 + random.below(7), random), order);
  }
}

TEST(ExpertRanks, EveryBlockLearnsTheSameWithBorrowedExperts) {
  Random random(23);
  for (const Block& block : kBlocks) {
    for (const Lend lend : {Lend::Hot, Lend::All}) {
      spec::ModelSpec spec = random_spec(random);
      block.change(spec);
      const Layout layout{.ranks = 3, .sharing = 3, .chunks = 1 + static_cast<int>(random.below(3)), .lend = lend, .moved = random.below(2) == 0};
      SCOPED_TRACE(described(layout, block.name));
      expect_as_one(layout, spec, {.keep = random.below(2) == 0 ? Keep::Products : Keep::Inputs}, test::random_batch(spec, 5, random), {});
    }
  }
}

// What all ranks have whole they change alike, to the bit, whatever they share; and the slices of each group are those of any other.
TEST(TensorRanks, WhatAllHaveStaysTheSameToTheBit) {
  Random random(31);
  spec::ModelSpec spec = random_spec(random);
  spec.feed_forward = {spec::FeedForward::Dense, spec::FeedForward::Moe};
  spec.moe.shared_hidden = 9;
  for (const bool shared : {true, false}) {
    std::mutex mutex;
    std::vector<std::vector<float>> whole_R(4), sliced_R(4);
    on_ranks(4, [&](comm::Group& group) {
      omp_set_num_threads(1);
      RankLayout ranks(Layout{.sharing = 4, .tensor = 2}.config(), &group);
      Weights weights(spec, ranks.expert_share(), ranks.stage_share(), ranks.tensor_share());
      weights.initialise(spec, 3);
      const TrainConfig::Optimizer config{.shared = shared};
      Optimizer optimizer(config, weights, {}, ranks.mesh());
      Transformer model(spec, weights, {}, ranks.experts(), ranks.tensor());
      Random same(5);
      for (int step = 0; step < 4; ++step) {
        const Batch batch = test::random_batch(spec, 5, same), mine = ranks.part_of(batch);
        model.forward(mine, kLosses.of_part(0.25f, 0.25f), nullptr, {.sum_over_ranks = ranks.sum()}).total.backward();
        optimizer.step(step, 0.01);
      }
      const auto numbers = [&](Stretch held) {
        const auto values = std::as_const(weights).values().subspan(held.begin, held.size);
        return std::vector<float>(values.begin(), values.end());
      };
      const std::lock_guard lock(mutex);
      whole_R[static_cast<size_t>(group.rank())] = numbers(weights.dense(Holders::OneStage));
      sliced_R[static_cast<size_t>(group.rank())] = numbers(weights.sliced());
    });
    ASSERT_FALSE(whole_R[0].empty() || sliced_R[0].empty());
    for (size_t rank = 1; rank < 4; ++rank) EXPECT_TRUE(whole_R[rank] == whole_R[0]) << rank;
    EXPECT_TRUE(sliced_R[2] == sliced_R[0] && sliced_R[3] == sliced_R[1]);
    EXPECT_FALSE(sliced_R[0] == sliced_R[1]);
  }
}

TEST(ExpertRanks, RowsInBf16AreNearlyTheSame) {
  Random random(5);
  spec::ModelSpec spec = random_spec(random);
  spec.feed_forward.assign(2, spec::FeedForward::Moe);
  expect_as_one({.chunks = 2, .bf16 = true}, spec, {}, test::random_batch(spec, 1 + random.below(7), random), {}, 0.05);
}

TEST(TensorRanks, PackedSlicesInBf16AreNearlyTheSame) {
  Random random(6);
  spec::ModelSpec spec = random_spec(random);
  spec.feed_forward[0] = spec::FeedForward::Dense;
  spec.dense_hidden = 64, spec.moe.shared_hidden = 37;
  spec.attention.head_dim = 16;
  expect_as_one({.sharing = 1, .tensor = 2}, spec, {.type = GemmType::Bf16}, test::random_batch(spec, 1 + random.below(7), random), {}, 0.05);
}

// Gradients that are a function of the weight.
void set_gradients(Weights& weights, const Weights& whole, int step) {
  for (size_t i = 0; i < weights.entries().size(); ++i) {
    const Weights::Entry &here = weights.entries()[i], &there = whole.entries()[i];
    std::vector<float> gradient(there.size);
    Random random(9, i, static_cast<uint64_t>(step) << 32);
    for (float& x : gradient) x = static_cast<float>(random.uniform() - 0.5);
    here.part().take(std::span<const float>(gradient), weights.gradients().subspan(here.begin, here.size));
  }
}

struct Folder {
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
  fs::path path = fs::temp_directory_path() / fmt::format("moiety-expert-ranks-{}", ::getpid());
};

TEST(ExpertRanks, ACheckpointIsThatOfOneProcessAndAnyLayoutGoesOnFromIt) {
  Random random(2);
  struct Case {
    const char* state;
    int experts;
    bool tensor;  // matrices are shared, not experts
  };
  for (const auto& [state, experts, tensor] : {Case{"f32", 1, false}, {"f32", 7, false}, {"factored", 1, false}, {"factored", 7, false}, {"f32", 7, true}}) {
    const Folder folder;
    spec::ModelSpec spec = random_spec(random);
    spec.moe.router.num_experts = experts;
    spec.moe.router.experts_per_token = 1;
    if (tensor) spec.attention.num_kv_heads = spec.attention.num_heads = 4, spec.moe.shared_hidden = 11;
    else spec.moe.gru_experts = experts / 3, spec.moe.gru_hidden = 6;
    const Weights whole(spec);
    const auto share_of = [&, tensor = tensor](comm::Group& group) {
      return tensor ? Weights(spec, {}, {group.rank(), group.size()}) : Weights(spec, {group.rank(), group.size()});
    };
    const TrainConfig::Optimizer config{.clip = 0, .state = state};
    const auto step = [&](Weights& weights, Optimizer& optimizer, int at) {
      set_gradients(weights, whole, at);
      optimizer.step(at, 0.01);
    };

    Weights weights(spec);
    weights.initialise(spec, 3);
    Optimizer optimizer(config, weights);
    step(weights, optimizer, 0);
    test::write_checkpoint({folder.path / "one", {}}, spec, weights, optimizer, {.step = 1, .steps = 2, .domains = Json::array()});
    step(weights, optimizer, 1);
    test::write_checkpoint({folder.path / "one", {}}, spec, weights, optimizer, {.step = 2, .steps = 2, .domains = Json::array()});

    // The first step on three ranks, the second on two.
    on_ranks(3, [&](comm::Group& group) {
      Weights mine = share_of(group);
      mine.initialise(spec, 3);
      Optimizer my_optimizer(config, mine);
      step(mine, my_optimizer, 0);
      test::write_checkpoint({folder.path / "ranks", {}}, spec, mine, my_optimizer, {.step = 1, .steps = 2, .domains = Json::array()}, &group);
    });
    on_ranks(2, [&](comm::Group& group) {
      Weights mine = share_of(group);
      Optimizer my_optimizer(config, mine);
      EXPECT_EQ(read_checkpoint(folder.path / "ranks" / "step-00000001", spec, mine, my_optimizer).step, 1);
      step(mine, my_optimizer, 1);
      test::write_checkpoint({folder.path / "ranks", {}}, spec, mine, my_optimizer, {.step = 2, .steps = 2, .domains = Json::array()}, &group);
    });
    for (const char* name : {"step-00000001/model.safetensors", "step-00000001/optimizer.safetensors", "step-00000002/model.safetensors",
                             "step-00000002/optimizer.safetensors"}) {
      EXPECT_TRUE(read_file(folder.path / "one" / name) == read_file(folder.path / "ranks" / name)) << name << ", " << state << (tensor ? ", matrices" : "");
    }
  }
}

}  // namespace
}  // namespace moiety::train
