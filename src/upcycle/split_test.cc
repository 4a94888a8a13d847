#include "upcycle/split.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "upcycle/matrices.h"
#include "upcycle/test_support.h"

namespace moiety::upcycle {
namespace {

using spec::Role;

// Units 0, 1 are busy in one domain, 2, 3 in the other; 4 in both, 5 in none.
std::vector<format::Importance> two_domains() {
  const std::vector<double> first = {9, 8, 0, 0, 5, 0}, second = {0, 0, 9, 8, 5, 0};
  std::vector<format::Importance> domains(2);
  domains[0].tensors["blk.0.ffn_down.weight"] = {first, {1}};
  domains[1].tensors["blk.0.ffn_down.weight"] = {second, {1}};
  domains[0].where = "a.gguf";
  return domains;
}

// Every column of down is as long as the others.
MadeModel even_model() {
  MadeModel model = random_model(dense_spec(1, 4, 6), 1);
  model.make = [make = model.make](const spec::Weight& weight) {
    std::vector<float> values = make(weight);
    if (weight.role == Role::DenseDown) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = i / 6 % 2 == 0 ? 1 : -1;
    }
    return values;
  };
  return model;
}

TEST(SplitByUse, ADomainsExpertHasTheUnitsThatGiveMostThere) {
  const MadeModel dense = even_model();
  const MadeModel mixture = split_by_use(dense, two_domains(), {.expert_hidden = 3});
  EXPECT_EQ(mixture.spec.moe.router.num_experts, 2);
  const std::vector<int> units[] = {{0, 1, 4}, {2, 3, 4}};
  for (int e = 0; e < 2; ++e) {
    EXPECT_EQ(mixture.make({Role::ExpertGate, 0, e}), rows_of(dense.make({Role::DenseGate, 0}), 4, units[e]));
    EXPECT_EQ(mixture.make({Role::ExpertUp, 0, e}), rows_of(dense.make({Role::DenseUp, 0}), 4, units[e]));
    EXPECT_EQ(mixture.make({Role::ExpertDown, 0, e}), cols_of(dense.make({Role::DenseDown, 0}), 6, units[e]));
  }
}

TEST(SplitByUse, AUnitThatIsReadLittleIsWorthLittle) {
  MadeModel dense = even_model();
  dense.make = [make = dense.make](const spec::Weight& weight) {
    std::vector<float> values = make(weight);
    if (weight.role == Role::DenseDown) {
      for (size_t i = 0; i < values.size(); i += 6) values[i] = 0.1f;  // unit 0, busiest of its domain
    }
    return values;
  };
  const MadeModel mixture = split_by_use(dense, two_domains(), {.expert_hidden = 2});
  EXPECT_EQ(mixture.make({Role::ExpertGate, 0, 0}), rows_of(dense.make({Role::DenseGate, 0}), 4, std::vector<int>{1, 4}));
}

TEST(SplitByUse, TiesGoToTheLowerUnit) { EXPECT_EQ(largest(std::vector<double>{1, 3, 2, 3, 2}, 3), (std::vector<int>{1, 2, 3})); }

TEST(SplitByUse, StatisticsOfAnotherModelAreRefused) {
  const auto split = [](const MadeModel& model, int hidden) { split_by_use(model, two_domains(), {.expert_hidden = hidden}); };
  EXPECT_THROW(split(random_model(dense_spec(1, 4, 8), 1), 2), Error);  // other sizes
  EXPECT_THROW(split(random_model(dense_spec(2, 4, 6), 1), 2), Error);  // nothing of layer 1
  EXPECT_THROW(split(even_model(), 7), Error);
}

}  // namespace
}  // namespace moiety::upcycle
