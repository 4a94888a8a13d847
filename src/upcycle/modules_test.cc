#include "upcycle/modules.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "upcycle/matrices.h"
#include "upcycle/test_support.h"

namespace moiety::upcycle {
namespace {

using spec::FeedForward;
using spec::Role;

spec::ModelSpec sparse_spec() {
  spec::ModelSpec s = dense_spec(3, 8, 12);
  s.feed_forward = {FeedForward::Moe, FeedForward::Dense, FeedForward::Moe};
  s.moe = {.router = {.num_experts = 4, .experts_per_token = 2, .has_selection_bias = true}, .expert_hidden = 6};
  s.attention.experts = spec::AttentionExperts{3, 2};
  return s;
}

TEST(Modules, AllThatThereIsIsTheModel) {
  const MadeModel model = random_model(sparse_spec(), 1);
  const MadeModel same = with_modules(model, modules_of(model.spec));
  for (const spec::Weight& weight : spec::weights_of(model.spec, true)) EXPECT_EQ(same.make(weight), model.make(weight));
  EXPECT_EQ(spec::to_json(same.spec), spec::to_json(model.spec));
}

TEST(Modules, NewExpertsComeBehindTheOldOnesWithRowsOfTheirOwn) {
  const MadeModel model = random_model(sparse_spec(), 1);
  Modules modules = modules_of(model.spec);
  for (const int layer : {0, 2}) modules.experts_L[static_cast<size_t>(layer)].insert(modules.experts_L[static_cast<size_t>(layer)].end(), 2, kNewExpert);
  modules.attention_experts.push_back(kNewExpert);
  const MadeModel more = with_modules(model, modules);
  EXPECT_EQ(more.spec.moe.router.num_experts, 6);
  EXPECT_EQ(more.spec.attention.experts->num_experts, 4);

  for (const Role role : {Role::ExpertGate, Role::ExpertUp, Role::ExpertDown}) {
    for (int e = 0; e < 4; ++e) EXPECT_EQ(more.make({role, 2, e}), model.make({role, 2, e}));
    EXPECT_NE(more.make({role, 2, 4}), more.make({role, 2, 5}));
    EXPECT_NE(more.make({role, 2, 4}), more.make({role, 0, 4}));
    EXPECT_GT(root_mean_square(more.make({role, 2, 4})), 0);
  }
  const std::vector<float> router = more.make({Role::Router, 2});
  EXPECT_EQ(rows_of(router, 8, 0, 4), model.make({Role::Router, 2}));
  EXPECT_NEAR(root_mean_square(rows_of(router, 8, 4, 2)), 0.02, 0.01);
  const std::vector<float> bias = more.make({Role::SelectionBias, 2});
  EXPECT_EQ((std::vector<float>{bias.begin(), bias.begin() + 4}), model.make({Role::SelectionBias, 2}));
  EXPECT_EQ((std::vector<float>{bias.begin() + 4, bias.end()}), (std::vector<float>{0, 0}));
  const std::vector<float> query = more.make({Role::AttentionExpertQuery, 0}), old = model.make({Role::AttentionExpertQuery, 0});
  EXPECT_EQ(query.size(), old.size() / 3 * 4);
  EXPECT_TRUE(std::equal(old.begin(), old.end(), query.begin()));
}

TEST(Modules, ExpertsLeftOutLeaveTheirRowsAndMayDifferByLayer) {
  const MadeModel model = random_model(sparse_spec(), 1);
  Modules modules = modules_of(model.spec);
  modules.experts_L[0] = {1, 3};
  modules.experts_L[2] = {0, 1, 3};
  const MadeModel fewer = with_modules(model, modules);
  EXPECT_EQ(fewer.spec.moe.experts_L, (std::vector<int>{2, 0, 3}));
  EXPECT_EQ(fewer.spec.moe.router.num_experts, 3);
  EXPECT_EQ(fewer.make({Role::ExpertUp, 0, 1}), model.make({Role::ExpertUp, 0, 3}));
  const std::vector<int> kept{1, 3};
  EXPECT_EQ(fewer.make({Role::Router, 0}), rows_of(model.make({Role::Router, 0}), 8, kept));

  modules.experts_L[0] = {1};  // of which a token can't take two
  EXPECT_THROW(with_modules(model, modules), Error);
}

TEST(Modules, BusyExpertsAreThoseWithAShareOfTheMean) {
  const std::vector<int64_t> visits_E{40, 0, 1, 9, 30};  // 16 on average
  EXPECT_EQ(busy_experts(visits_E, 0, 1), (std::vector<int>{0, 2, 3, 4}));
  EXPECT_EQ(busy_experts(visits_E, 0.5, 1), (std::vector<int>{0, 3, 4}));
  EXPECT_EQ(busy_experts(visits_E, 2, 2), (std::vector<int>{0, 4}));
  EXPECT_EQ(busy_experts(visits_E, 0, 5), (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(Modules, GatesWithoutARowForEachExpertAreRefused) {
  spec::ModelSpec spec = sparse_spec();
  spec.moe.router = {.num_experts = 4, .experts_per_token = 2, .gate = spec::Gate::Hash};
  const MadeModel model = random_model(spec, 1);
  EXPECT_THROW(with_modules(model, modules_of(spec)), Error);
  EXPECT_THROW(with_modules(random_model(dense_spec(2, 8, 12), 1), modules_of(dense_spec(2, 8, 12))), Error);
}

}  // namespace
}  // namespace moiety::upcycle
