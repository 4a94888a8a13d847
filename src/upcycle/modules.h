// Models of experts with other experts: new ones beside those that are there, old ones left out (Shen et al. 2023, "ModuleFormer": a model
// learns new text with new modules, and is made smaller by those that its text has no use for).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "upcycle/made_model.h"

namespace moiety::upcycle {

inline constexpr int kNewExpert = -1;

// What each layer's experts are to be: numbers of the old ones, or kNewExpert.
struct Modules {
  std::vector<std::vector<int>> experts_L;  // of dense layers none
  std::vector<int> attention_experts;       // of every layer; without attention experts none
  double router_deviation = 0.02;           // of new experts' rows in the routers; other new weights are as large as training begins with
  uint64_t seed = 1;
};
// All that there is.
Modules modules_of(const spec::ModelSpec& spec);

// The model with these. Throws Error(Input) if its gate has no row for each expert, if experts are in groups or chains, or if a token
// takes more than a layer would have.
MadeModel with_modules(MadeModel model, const Modules& modules);

// A layer's experts with at least `share` of the mean visits, ascending, those without a visit left out; but at least the `least` busiest.
std::vector<int> busy_experts(std::span<const int64_t> visits_E, double share, int least);

}  // namespace moiety::upcycle
