// What is made of a dense model computes what the model did, in training and in inference; where it can't, that is said here too.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/random_model.h"
#include "train/transformer.h"
#include "upcycle/depth.h"
#include "upcycle/experts.h"
#include "upcycle/modules.h"
#include "upcycle/split.h"
#include "upcycle/width.h"

namespace moiety {
namespace {

using spec::ModelSpec;
using spec::QkNorm;
using upcycle::grow_depth;
using upcycle::MadeModel;
using upcycle::mix_experts;
using upcycle::split_by_use;
using Logits = std::vector<float>;

constexpr int kTokens = 40;

ModelSpec dense_spec() {
  ModelSpec s = test::small_spec();
  s.feed_forward.assign(2, spec::FeedForward::Dense);
  s.dense_hidden = 48;
  return s;
}

std::vector<int32_t> some_tokens(const ModelSpec& spec) {
  Random random(3);
  std::vector<int32_t> tokens(kTokens);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size)));
  return tokens;
}

Logits in_training(const fs::path& folder) {
  omp_set_num_threads(1);  // so small a model gains nothing by two
  const train::LoadedModel model = train::load_model(folder);
  const std::vector<int32_t> tokens = some_tokens(model.spec);
  const torch::Tensor logits =
      model.transformer->logits({.tokens_T = tokens, .targets_T = tokens, .segments = {{0, kTokens}}}).contiguous();
  return {logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel()};
}

Logits in_inference(const fs::path& folder) {
  const format::ModelFile file(folder);
  const std::vector<int32_t> tokens = some_tokens(file.spec());
  ThreadPool threads(1);
  const kernel::Compute compute{*kernel::available_kernels()[0], threads};
  model::Transformer transformer(file, compute);
  model::KvCache cache(file.spec(), tokens.size());
  const model::Chunk chunk{&cache, tokens, tokens.size()};
  const Matrix<float> logits = transformer.forward({&chunk, 1});
  return {logits.flat().begin(), logits.flat().end()};
}

float largest_difference(const Logits& a, const Logits& b) {
  if (a.size() != b.size()) return INFINITY;
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
  }
  return largest;
}

struct Folders {
  test::TemporaryFolder temporary;
  fs::path dense = temporary.path() / "dense", made = temporary.path() / "made";

  explicit Folders(const ModelSpec& spec) {
    test::write_random_checkpoint(spec, dense);
    fs::create_directories(made);
  }
  void make(const std::function<MadeModel(MadeModel)>& change) const {
    const format::ModelFile file(dense);
    upcycle::write_model(change(upcycle::model_of(file)), made);
  }
  float change_in_training() const { return largest_difference(in_training(dense), in_training(made)); }
  float change_in_inference() const { return largest_difference(in_training(dense), in_inference(made)); }
};

struct Case {
  const char* name;
  MadeModel (*change)(MadeModel);
  void (*spec)(ModelSpec&) = [](ModelSpec&) {};
};

MadeModel wider(MadeModel m, const upcycle::Width& how) { return upcycle::grow_width(std::move(m), how); }

const Case kPreserving[] = {
    {"copies", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 4}); }},
    {"copies_by_sigmoid", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 4, .score = spec::Score::Sigmoid}); }},
    {"fine_copies", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 4, .parts = 6, .experts_per_token = 12}); }},
    {"partition", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 1, .parts = 8, .experts_per_token = 8}); }},
    {"fine_copies_by_angle",
     [](MadeModel m) {
       return mix_experts({std::move(m)}, {.copies = 3, .parts = 4, .gate = {.kind = spec::Gate::Cosine, .width = 6}});
     }},
    {"copies_by_a_state_that_goes_from_layer_to_layer",
     [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 4, .gate = {.kind = spec::Gate::Recurrent, .width = 6}}); }},
    {"fine_copies_chosen_a_layer_ahead",
     [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 3, .parts = 4, .gate = {.kind = spec::Gate::Ahead}}); }},
    {"fine_copies_by_one_router_for_all_layers",
     [](MadeModel m) {
       return mix_experts({std::move(m)}, {.copies = 3, .parts = 4, .gate = {.kind = spec::Gate::Decoupled, .width = 6, .deviation = 0.3}});
     }},
    {"every_other_layer", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 3, .every = 2}); }},
    {"dense_kept_as_shared",
     [](MadeModel m) {
       return mix_experts({std::move(m)}, {.copies = 3, .parts = 2, .experts_per_token = 1, .keep_dense = true});
     }},
    {"ternary_beside_dense",
     [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 3, .parts = 2, .keep_dense = true, .ternary = true}); }},
    {"copies_of_a_tied_model", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 2}); },
     [](ModelSpec& s) { s.tied_embeddings = true; }},
    {"twice_as_wide", [](MadeModel m) { return wider(std::move(m), {.width = 64, .dense_hidden = 96, .kv_heads = 4}); }},
    {"unevenly_wider", [](MadeModel m) { return wider(std::move(m), {.width = 45, .dense_hidden = 70, .kv_heads = 3}); }},
    {"wider_without_noise",
     [](MadeModel m) { return wider(std::move(m), {.width = 45, .dense_hidden = 70, .kv_heads = 3, .noise = 0}); }},
    {"wider_with_tied_embeddings", [](MadeModel m) { return wider(std::move(m), {.width = 50}); },
     [](ModelSpec& s) { s.tied_embeddings = true; }},
    {"wider_with_norms_of_heads", [](MadeModel m) { return wider(std::move(m), {.width = 50, .kv_heads = 5}); },
     [](ModelSpec& s) { s.attention.qk_norm = QkNorm::PerHead; }},
    {"wider_with_norms_over_all_heads", [](MadeModel m) { return wider(std::move(m), {.width = 50, .kv_heads = 5}); },
     [](ModelSpec& s) { s.attention.qk_norm = QkNorm::Whole; }},
    {"deeper_in_silence", [](MadeModel m) { return grow_depth(std::move(m), 5, upcycle::NewLayers::Silent); }},
    {"wider_and_deeper_and_experts",
     [](MadeModel m) {
       MadeModel large = grow_depth(wider(std::move(m), {.width = 40, .dense_hidden = 60}), 3, upcycle::NewLayers::Silent);
       return mix_experts({std::move(large)}, {.copies = 2, .parts = 3});
     }},
    {"wider_mixture",
     [](MadeModel m) {
       return wider(mix_experts({std::move(m)}, {.copies = 2, .parts = 3, .gate = {.deviation = 0.3}}), {.width = 40});
     }},
};

class WayOfUpcycling : public testing::TestWithParam<Case> {};

TEST_P(WayOfUpcycling, PreservesTheFunction) {
  ModelSpec spec = dense_spec();
  GetParam().spec(spec);
  const Folders folders(spec);
  folders.make(GetParam().change);
  EXPECT_LT(folders.change_in_training(), 1e-4);
  EXPECT_LT(folders.change_in_inference(), 1e-4);
  float size = 0;
  for (const float x : in_training(folders.dense)) size = std::max(size, std::abs(x));
  EXPECT_GT(size, 1);  // of something, not of zeros
}

INSTANTIATE_TEST_SUITE_P(Ways, WayOfUpcycling, testing::ValuesIn(kPreserving),
                         [](const auto& test) { return std::string(test.param.name); });

// And over shapes that nobody chose.
TEST(Upcycling, PreservesTheFunctionOfRandomShapes) {
  Random random(11);
  const auto some = [&](int low, int high) {
    return low + static_cast<int>(random.below(static_cast<uint64_t>(high - low + 1)));
  };
  for (int round = 0; round < 8; ++round) {
    ModelSpec spec = dense_spec();
    spec.attention.num_kv_heads = some(1, 3);
    spec.attention.num_heads = spec.attention.num_kv_heads * some(1, 3);
    spec.attention.qk_norm = std::array{QkNorm::None, QkNorm::PerHead, QkNorm::Whole}[random.below(3)];
    spec.tied_embeddings = random.below(2) == 0;
    spec.width = some(9, 40);
    const int parts = some(1, 5), copies = some(1, 4);
    spec.dense_hidden = parts * some(2, 12);
    const upcycle::Width growth{
        .width = spec.width + some(0, 40), .kv_heads = spec.attention.num_kv_heads + some(0, 3), .seed = random.next()};
    const upcycle::Copies experts{.copies = copies,
                                  .parts = parts,
                                  .experts_per_token = parts * some(1, copies),
                                  .gate = {.deviation = 0.2},
                                  .seed = random.next()};
    const Folders folders(spec);
    folders.make([&](MadeModel m) { return mix_experts({wider(std::move(m), growth)}, experts); });
    EXPECT_LT(folders.change_in_training(), 1e-4) << spec::to_json(spec).dump();
    EXPECT_LT(folders.change_in_inference(), 1e-4) << spec::to_json(spec).dump();
  }
}

// What is said not to preserve the function doesn't.
TEST(Upcycling, OtherWaysChangeTheFunction) {
  const Case others[] = {
      {"half a copy", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 2, .parts = 4, .experts_per_token = 2}); }},
      {"ternary", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 2, .ternary = true}); }},
      {"noise", [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 2, .noise = 0.1}); }},
      {"scores",
       [](MadeModel m) { return mix_experts({std::move(m)}, {.copies = 4, .renormalise = false, .gate = {.deviation = 0.3}}); }},
      {"the next layer's neurons",
       [](MadeModel m) { return wider(std::move(m), {.dense_hidden = 96, .neurons = upcycle::NewNeurons::NextLayer}); }},
      {"interpolated layers", [](MadeModel m) { return grow_depth(std::move(m), 4, upcycle::NewLayers::Interpolated); }},
      {"stacked layers", [](MadeModel m) { return grow_depth(std::move(m), 4, upcycle::NewLayers::Stacked); }},
  };
  for (const Case& other : others) {
    const Folders folders(dense_spec());
    folders.make(other.change);
    EXPECT_GT(folders.change_in_training(), 1e-3) << other.name;
  }
}

// The model with a first dimension of the stream that is the same number for every token: routers can go by it.
MadeModel with_beacon(MadeModel model) {
  model.make = [make = model.make](const spec::Weight& weight) {
    using enum spec::Role;
    std::vector<float> values = make(weight);
    if (weight.role == Embedding) {
      for (size_t i = 0; i < values.size(); i += 32) values[i] = 3;
    }
    if (weight.role == AttentionOutput || weight.role == DenseDown) std::fill_n(values.begin(), weight.role == DenseDown ? 48 : 32, 0.0f);
    if (weight.role == AttentionNorm || weight.role == FeedForwardNorm) values[0] = 1;
    return values;
  };
  return model;
}

// The mixture of two models with every token sent to one's experts.
MadeModel fixed_to(size_t chosen, MadeModel mixture) {
  mixture.make = [make = mixture.make, chosen](const spec::Weight& weight) {
    if (weight.role != spec::Role::Router && weight.role != spec::Role::AttentionRouter) return make(weight);
    std::vector<float> rows(2 * 32);
    rows[chosen * 32] = 100, rows[(1 - chosen) * 32] = -100;
    return rows;
  };
  return mixture;
}

struct Branching {
  const char* name;
  std::vector<spec::Role> own;  // weights that are not the same in both branches
  int attention_experts_per_token;
};

// Branches of one model that were trained in what becomes experts alone: with every token sent to one's, its logits come back.
TEST(Upcycling, RoutingFixedToOneModelGivesItsLogits) {
  using enum spec::Role;
  const Branching ways[] = {
      {"feed-forwards", {DenseGate, DenseUp, DenseDown}, 0},
      {"and attention", {DenseGate, DenseUp, DenseDown, Query, AttentionOutput}, 1},
      {"and soft attention", {DenseGate, DenseUp, DenseDown, Query, AttentionOutput}, 2},
  };
  for (const Branching& way : ways) {
    const ModelSpec spec = dense_spec();
    const Folders folders(spec);
    const fs::path other = folders.temporary.path() / "other";
    test::write_random_checkpoint(spec, other, 2);
    const format::ModelFile trunk(folders.dense), leaves(other);
    const MadeModel a = with_beacon(upcycle::model_of(trunk)), b = with_beacon(upcycle::model_of(leaves));
    const MadeModel branches[] = {
        a, {spec, [&](const spec::Weight& w) { return std::ranges::count(way.own, w.role) > 0 ? b.make(w) : a.make(w); }}};
    Logits wanted[2];
    for (size_t i = 0; i < 2; ++i) {
      upcycle::write_model(branches[i], folders.made);
      wanted[i] = in_training(folders.made);
    }
    EXPECT_GT(largest_difference(wanted[0], wanted[1]), 1e-2) << way.name;
    for (size_t chosen = 0; chosen < 2; ++chosen) {
      const MadeModel mixture = mix_experts({branches[0], branches[1]}, {.attention_experts_per_token = way.attention_experts_per_token});
      upcycle::write_model(fixed_to(chosen, mixture), folders.made);
      EXPECT_LT(largest_difference(wanted[chosen], in_training(folders.made)), 1e-4) << way.name << ", branch " << chosen;
      EXPECT_LT(largest_difference(wanted[chosen], in_inference(folders.made)), 1e-4) << way.name << ", branch " << chosen;
    }
  }
}

// An expert that has all units, whatever it was split by, is the dense feed-forward.
TEST(Upcycling, ExpertsOfAllUnitsPreserveTheFunction) {
  const Folders folders(dense_spec());
  std::vector<format::Importance> domains(3);
  Random random(4);
  for (format::Importance& domain : domains) {
    for (const char* name : {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}) {
      std::vector<double> squares(48);
      for (double& square : squares) square = random.uniform();
      domain.tensors[name] = {squares, {1}};
    }
  }
  folders.make([&](MadeModel m) { return split_by_use(std::move(m), domains, {.expert_hidden = 48}); });
  EXPECT_LT(folders.change_in_training(), 1e-4);
  folders.make([&](MadeModel m) { return split_by_use(std::move(m), domains, {.expert_hidden = 24}); });
  EXPECT_GT(folders.change_in_training(), 1e-3);
}

// What no token of the text visits can go; what comes is there in training and in inference.
TEST(Modules, ExpertsWithoutAVisitAreNotMissedAndNewOnesAreTheSameOnBothSides) {
  ModelSpec spec = test::small_spec();
  spec.moe.router.num_experts = 12;
  spec.moe.router.experts_per_token = 2;
  spec.attention.num_heads = 4;
  spec.attention.experts = spec::AttentionExperts{3, 2};
  spec.attention.weigh = spec::AttentionWeigh::StickBreaking;
  const Folders folders(spec);

  // Of four tokens, which visit 8 experts of 12 at most
  std::vector<std::vector<int64_t>> visits_LE(2, std::vector<int64_t>(12, 0));
  {
    const format::ModelFile file(folders.dense);
    ThreadPool threads(1);
    const kernel::Compute compute{*kernel::available_kernels()[0], threads};
    model::Transformer transformer(file, compute);
    const std::vector<int32_t> tokens = some_tokens(spec);
    model::KvCache cache(spec, tokens.size());
    const model::Chunk chunk{&cache, std::span(tokens).first(4), 4};
    transformer.forward({&chunk, 1}, [&](int layer, const moe::Routing& routing) {
      for (const int32_t expert : routing.experts_N) ++visits_LE[static_cast<size_t>(layer)][static_cast<size_t>(expert)];
    });
  }
  folders.make([&](MadeModel m) {
    upcycle::Modules modules = upcycle::modules_of(m.spec);
    for (size_t layer = 0; layer < 2; ++layer) modules.experts_L[layer] = upcycle::busy_experts(visits_LE[layer], 0, 2);
    EXPECT_LT(modules.experts_L[0].size(), 12u);
    return upcycle::with_modules(std::move(m), modules);
  });
  // The four tokens whose visits were counted
  const size_t counted = 4 * static_cast<size_t>(spec.vocab_size);
  Logits before = in_inference(folders.dense), after = in_inference(folders.made), trained = in_training(folders.made);
  EXPECT_LT(largest_difference(after, trained), 1e-4);
  for (Logits* logits : {&before, &after}) logits->resize(counted);
  EXPECT_LT(largest_difference(before, after), 1e-5);

  folders.make([](MadeModel m) {
    upcycle::Modules modules = upcycle::modules_of(m.spec);
    for (auto& experts : modules.experts_L) experts.push_back(upcycle::kNewExpert);
    modules.attention_experts.push_back(upcycle::kNewExpert);
    return upcycle::with_modules(std::move(m), modules);
  });
  EXPECT_LT(largest_difference(in_inference(folders.made), in_training(folders.made)), 1e-4);
}

}  // namespace
}  // namespace moiety
