#include "train/expert_homes.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "spec/expert_kind.h"
#include "train/checkpoint.h"
#include "train/part_exchange.h"
#include "train/tensor_reader.h"

namespace moiety::train {
namespace {

// An expert on its way is f32 weights and two moments; a visit computes 6 operations a weight.
constexpr double kBytesAWeight = 12, kFlopsAWeight = 6;

bool is_of_layer(const Weights::Entry& entry, int layer) { return entry.is_stack() && entry.weight.layer == layer; }

// Weights and moments of a layer's experts: what is here of them.
std::vector<TensorPart> experts_of_layer(const Weights& weights, Optimizer& optimizer, int layer) {
  std::vector<TensorPart> state = state_tensors(weights, optimizer);
  std::erase_if(state, [&](const TensorPart& tensor) {
    return std::ranges::none_of(weights.entries(), [&](const Weights::Entry& entry) { return is_of_layer(entry, layer) && tensor.here.name.ends_with(entry.name); });
  });
  return state;
}

std::vector<float> numbers_of(const TensorPart& tensor) {
  std::vector<float> numbers(tensor.part.size());
  TensorReader(tensor.here).read(0, numbers);
  return numbers;
}

void put(const std::string& name, std::span<const float> numbers, Weights& weights, Optimizer& optimizer) {
  const auto entry = std::ranges::find(weights.entries(), name, &Weights::Entry::name);
  if (entry == weights.entries().end()) return optimizer.put_state(name, numbers);
  std::ranges::copy(numbers, weights.values().subspan(entry->begin, entry->size).begin());
}

// Which numbers are here is all that differs before and after: a rank has as many of each tensor, in the same memory.
void move_layer(int layer, const moe::Placement& placement, Weights& weights, Optimizer& optimizer, comm::Group& ranks) {
  std::vector<std::vector<float>> old_N, new_N;
  std::vector<std::vector<HeldPart>> have_NK;
  for (const TensorPart& tensor : experts_of_layer(weights, optimizer, layer)) {
    old_N.push_back(numbers_of(tensor));
    have_NK.push_back({{tensor.part, old_N.back()}});
  }
  weights.place(layer, placement);
  const std::vector<TensorPart> wanted = experts_of_layer(weights, optimizer, layer);
  std::vector<WantedPart> want_N;
  for (const TensorPart& tensor : wanted) {
    new_N.emplace_back(tensor.part.size());
    want_N.push_back({tensor.part, new_N.back()});
  }
  [[maybe_unused]] const bool is_complete = exchange_parts(have_NK, want_N, ranks);
  assert(is_complete);
  for (size_t n = 0; n < wanted.size(); ++n) put(wanted[n].here.name, new_N[n], weights, optimizer);
}

}  // namespace

std::vector<int> kinds_of(const spec::ModelSpec& spec, int layer) {
  std::vector<int> kinds_K;
  int experts = 0;
  for (const spec::ExpertKindInfo& info : spec::kExpertKinds) {
    kinds_K.push_back(experts);
    experts += spec::experts_of(spec, layer, info.kind);
  }
  return kinds_K;
}

Json HomeChanges::to_json() const { return {{"experts", experts}, {"slowest_before", slowest_before}, {"slowest_after", slowest_after}}; }

ExpertHomes::ExpertHomes(const spec::ModelSpec& spec, int64_t every, double flops_a_byte)
    : spec_(spec),
      every_(every),
      costs_{.swap = kBytesAWeight / kFlopsAWeight * flops_a_byte},
      visits_(spec.num_layers, spec.moe.router.num_experts) {}

std::optional<HomeChanges> ExpertHomes::look(const moe::Load& step, const Weights& weights) {
  if (every_ == 0) return std::nullopt;
  int router = 0;
  for (int layer = 0; layer < spec_.num_layers; ++layer) {
    if (spec_.experts(layer) == 0) continue;
    for (int iteration = 0; iteration < spec_.moe.iterations; ++iteration, ++router) {
      for (int expert = 0; expert < spec_.experts(layer); ++expert) visits_.add(layer, expert, step.of_layer(router)[static_cast<size_t>(expert)]);
    }
  }
  if (++steps_ < every_) return std::nullopt;
  HomeChanges found = changes(weights);
  steps_ = 0;
  visits_ = moe::Load(visits_.layers(), visits_.experts());
  if (found.placement_L.empty()) return std::nullopt;
  return found;
}

HomeChanges ExpertHomes::changes(const Weights& weights) const {
  HomeChanges changes;
  double before = 0, after = 0, mean = 0;
  for (int layer = 0; layer < spec_.num_layers; ++layer) {
    const moe::Placement& now = weights.placement(layer);
    const auto visits_E = visits_.of_layer(layer).first(static_cast<size_t>(now.num_experts()));
    moe::Homes homes = moe::rebalanced(visits_E, now, kinds_of(spec_, layer), costs_);
    before += static_cast<double>(homes.slowest_before);
    after += static_cast<double>(homes.slowest_after);
    mean += static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0})) / now.num_ranks();
    if (homes.swaps == 0) continue;
    for (int expert = 0; expert < now.num_experts(); ++expert) changes.experts += homes.placement.owner(expert) != now.owner(expert);
    changes.placement_L.emplace(layer, std::move(homes.placement));
  }
  if (mean > 0) changes.slowest_before = before / mean, changes.slowest_after = after / mean;
  return changes;
}

void move_experts(const HomeChanges& changes, Weights& weights, Optimizer& optimizer, comm::Group& ranks) {
  const Activity::Span span(&ranks.activity(), "experts move");
  for (const auto& [layer, placement] : changes.placement_L) move_layer(layer, placement, weights, optimizer, ranks);
}

}  // namespace moiety::train
