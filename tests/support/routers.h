// Every stage of a router in at least one rule, for tests that hold two sides of the house together. Four experts, of which the
// rules of a model with more may make more.
#pragma once

#include <ostream>
#include <string>

#include "spec/router_rule.h"

namespace moiety::test {

struct RouterCase {
  const char* name;
  void (*change)(spec::RouterRule&);
};
inline void PrintTo(const RouterCase& c, std::ostream* out) { *out << c.name; }

inline const RouterCase kRouters[] = {
    {"switch", [](spec::RouterRule& r) { r.experts_per_token = 1, r.renormalise = false; }},
    {"temperature", [](spec::RouterRule& r) { r.temperature = 0.4f; }},
    {"tanh", [](spec::RouterRule& r) { r.logit_activation = spec::LogitActivation::Tanh, r.temperature = 0.5f; }},
    {"sigmoid_of_silu",
     [](spec::RouterRule& r) { r.logit_activation = spec::LogitActivation::Silu, r.score = spec::Score::Sigmoid; }},
    {"softmax_of_sigmoid", [](spec::RouterRule& r) { r.logit_activation = spec::LogitActivation::Sigmoid, r.renormalise = false; }},
    {"logits", [](spec::RouterRule& r) { r.score = spec::Score::Logits, r.renormalise = false; }},
    {"best_group",
     [](spec::RouterRule& r) { r.num_experts = 8, r.num_groups = 4, r.groups_per_token = 2, r.score = spec::Score::Sigmoid, r.has_selection_bias = true; }},
    {"two_best_of_groups",
     [](spec::RouterRule& r) { r.num_experts = 8, r.num_groups = 2, r.groups_per_token = 1, r.group_score = spec::GroupScore::BestTwo; }},
    {"grouped",
     [](spec::RouterRule& r) { r.num_experts = 8, r.experts_per_token = 4, r.num_groups = r.groups_per_token = 2, r.select = spec::Select::Grouped; }},
    {"top_p",
     [](spec::RouterRule& r) { r.experts_per_token = r.num_experts, r.select = spec::Select::TopP, r.top_p = 0.7f, r.renormalise = false; }},
    {"top_p_of_at_most_two", [](spec::RouterRule& r) { r.select = spec::Select::TopP, r.top_p = 0.6f, r.has_selection_bias = true; }},
    {"threshold",
     [](spec::RouterRule& r) { r.experts_per_token = 3, r.select = spec::Select::Threshold, r.threshold = 0.5f, r.score = spec::Score::Sigmoid, r.has_selection_bias = true; }},
    {"expert_choice",
     [](spec::RouterRule& r) { r.select = spec::Select::ExpertChoice, r.has_selection_bias = true, r.renormalise = false; }},
    {"tsallis", [](spec::RouterRule& r) { r.select = spec::Select::Tsallis, r.top_p = 0.8f, r.soft_entropy = 0.7f; }},
    {"null_experts", [](spec::RouterRule& r) { r.experts_per_token = 4, r.null_experts = 3; }},
    {"zero_copy_constant",
     [](spec::RouterRule& r) { r.zero_experts = r.copy_experts = 1, r.constant_experts = 2, r.gating_residual = true; }},
    {"all_kinds_by_top_p",
     [](spec::RouterRule& r) {
       r.null_experts = 1, r.zero_experts = 1, r.copy_experts = 2, r.constant_experts = 1, r.experts_per_token = 9;
       r.select = spec::Select::TopP, r.top_p = 0.8f, r.has_selection_bias = true, r.scale = 1.5f;
     }},
    {"gating_residual", [](spec::RouterRule& r) { r.gating_residual = true; }},
    {"sparse_mixer",
     [](spec::RouterRule& r) { r.weigh = spec::Weigh::SparseMixer, r.score = spec::Score::Logits, r.renormalise = false, r.sparse_mixer_reach = 0.6f; }},
};

inline std::string name_of(const RouterCase& c) { return c.name; }

}  // namespace moiety::test
