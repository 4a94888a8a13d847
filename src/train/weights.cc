#include "train/weights.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/random.h"
#include "format/weight_names.h"
#include "spec/expert_kind.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

using spec::Role;

bool is_norm(Role role) {
  switch (role) {
    case Role::AttentionNorm:
    case Role::FeedForwardNorm:
    case Role::FinalNorm:
    case Role::QueryNorm:
    case Role::KeyNorm:
      return true;
    default:
      return false;
  }
}

// What adds to the residual stream starts smaller the deeper the model, so that the stream's size doesn't grow with
// its depth (Radford et al. 2019, "GPT-2").
bool adds_to_stream(Role role) {
  return role == Role::AttentionOutput || role == Role::DenseDown || role == Role::SharedDown ||
         role == Role::AttentionExpertOutput || role == Role::ExpertsAscend || role == Role::ExpertDown || role == Role::ExpertGruOutput;
}

float deviation(const spec::ModelSpec& spec, Role role) {
  if (role == Role::Embedding) return spec.tied_embeddings ? 1.0f / std::sqrt(static_cast<float>(spec.width)) : 0.5f;
  const float inputs = static_cast<float>(spec::shape_of(spec, role).back());
  const bool adds = adds_to_stream(role) && !(spec::is_expert(role) && spec.moe.expert_width > 0);  // what ascends does
  const float depth = adds ? std::sqrt(2.0f * static_cast<float>(spec.num_layers)) : 1.0f;
  return role == Role::Head ? 0.5f / std::sqrt(inputs) : 1.0f / (std::sqrt(inputs) * depth);
}

// Matrices that products in bf16 read; those from `first` to `last` lie one after the other and are read as one.
struct {
  Role first, last;
} constexpr kPacked[] = {
    {Role::Query, Role::Value},           {Role::AttentionOutput, Role::AttentionOutput}, {Role::DenseGate, Role::DenseUp},
    {Role::DenseDown, Role::DenseDown},   {Role::SharedGate, Role::SharedUp},             {Role::SharedDown, Role::SharedDown},
    {Role::ExpertGate, Role::ExpertGate}, {Role::ExpertUp, Role::ExpertUp},               {Role::ExpertDown, Role::ExpertDown},
    {Role::Head, Role::Head},             {Role::ExpertsDescend, Role::ExpertsDescend},   {Role::ExpertsAscend, Role::ExpertsAscend},
};

// Which of the layer's experts is the first that has this weight.
size_t first_with(const spec::ModelSpec& spec, const spec::Weight& weight) {
  int before = 0;
  for (const spec::ExpertKindInfo& info : spec::kExpertKinds) {
    if (info.kind == spec::kind_of(weight.role)) break;
    before += spec::experts_of(spec, weight.layer, info.kind);
  }
  return static_cast<size_t>(before);
}

// Of a stack those that the rank holds.
std::vector<Stretch> stack_on(const moe::Placement& placement, int rank, const Weights::Entry& entry) {
  std::vector<Stretch> kept;
  const size_t first = entry.first_expert, end = first + static_cast<size_t>(entry.whole_shape[0]);
  for (const int id : placement.experts(rank)) {
    const auto expert = static_cast<size_t>(id);
    if (expert < first || expert >= end) continue;
    if (!kept.empty() && kept.back().end() == expert - first) ++kept.back().size;
    else kept.push_back({expert - first, 1});
  }
  return kept;
}

}  // namespace

Weights::Weights(const spec::ModelSpec& spec, const ExpertShare& share, const StageShare& stages, const TensorShare& tensor) : share_(share), tensor_(tensor) {
  check_slices(spec, tensor);
  for (int layer = 0; layer < spec.num_layers; ++layer) placement_L_.push_back(moe::spread_evenly(spec.experts(layer), share.ranks));
  for (const spec::Weight& weight : spec::weights_of(spec, false)) {
    Entry entry{.weight = weight, .name = format::our_name(weight), .whole_shape = spec::shape_of(spec, weight.role, weight.layer), .size = 1};
    if (entry.is_stack()) {
      entry.whole_shape.insert(entry.whole_shape.begin(), spec::experts_with(spec, weight.layer, weight.role));
      entry.first_expert = first_with(spec, weight);
    }
    const bool is_of_stage = train::is_here(spec, weight, stages);
    if (is_of_stage) entry.kept = entry.is_stack() ? stack_on(placement(weight.layer), share.rank, entry) : std::vector{Stretch{0, static_cast<size_t>(entry.whole_shape[0])}};
    if (const auto slices = slices_of(spec, weight.role, tensor); slices && is_of_stage) {
      entry.axis = slices->axis;
      entry.kept = {slices->kept};
    }
    entry.shape = entry.whole_shape;
    entry.shape[entry.axis] = 0;
    for (const Stretch& slices : entry.kept) entry.shape[entry.axis] += static_cast<int64_t>(slices.size);
    // No gradient moves the selection bias: the balance of the load does.
    entry.trained = weight.role != Role::SelectionBias;
    for (const int64_t extent : entry.shape) entry.size *= static_cast<size_t>(extent);
    entries_.push_back(std::move(entry));
  }
  enum class Held { Whole, Sliced, Spread };
  const auto held = [&](const Entry& entry) {
    if (share.ranks > 1 && entry.is_stack()) return Held::Spread;
    return slices_of(spec, entry.weight.role, tensor) ? Held::Sliced : Held::Whole;
  };
  size_t total = 0;
  const auto place = [&](const auto& belongs) {
    const size_t begin = total;
    for (Entry& entry : entries_) {
      if (!belongs(entry)) continue;
      entry.begin = total;
      total += entry.size;
    }
    return Stretch{begin, total - begin};
  };
  for (size_t holders = 0; holders < kHolders; ++holders) {
    dense_[holders] = place([&](const Entry& entry) {
      return held(entry) == Held::Whole && static_cast<size_t>(holders_of(spec, entry.weight, stages)) == holders;
    });
  }
  sliced_ = place([&](const Entry& entry) { return held(entry) == Held::Sliced; });
  place([&](const Entry& entry) { return held(entry) == Held::Spread; });
  values_ = Matrix<float>(1, total);
  gradients_ = Matrix<float>(1, total);
}

void Weights::place(int layer, moe::Placement placement) {
  for (Entry& entry : entries_) {
    if (!entry.is_stack() || entry.weight.layer != layer || entry.kept.empty()) continue;
    entry.kept = stack_on(placement, share_.rank, entry);
    assert(entry.part().size() == entry.size);
  }
  placement_L_[static_cast<size_t>(layer)] = std::move(placement);
}

void Weights::freeze(Role role) {
  for (Entry& entry : entries_) {
    if (entry.weight.role == role) entry.trained = false;
  }
}

void Weights::freeze_old(int experts, int attention_experts) {
  for (Entry& entry : entries_) {
    const Role role = entry.weight.role;
    if (spec::is_expert(role) || spec::is_attention_expert(role)) {
      assert(has_all_experts());
      const int64_t old = std::min<int64_t>(spec::is_expert(role) ? experts : attention_experts, entry.shape[0]);
      entry.frozen = entry.size / static_cast<size_t>(entry.shape[0]) * static_cast<size_t>(old);
    } else {
      entry.trained = entry.trained && (role == Role::Router || role == Role::AttentionRouter);
    }
  }
}

bool Weights::has(Role role, int layer) const {
  return std::ranges::any_of(entries_,
                             [&](const Entry& e) { return e.weight.role == role && e.weight.layer == layer; });
}

const Weights::Entry& Weights::find(Role role, int layer) const {
  const auto it = std::ranges::find_if(
      entries_, [&](const Entry& e) { return e.weight.role == role && e.weight.layer == layer; });
  assert(it != entries_.end());
  return *it;
}

WeightVector Weights::vector(Role role, int layer) {
  const Entry& entry = find(role, layer);
  return {values_.flat().subspan(entry.begin, entry.size), gradients().subspan(entry.begin, entry.size)};
}

WeightMatrix Weights::joined(Role first, Role last, int layer) {
  const Entry& begin = find(first, layer);
  const Entry& end = find(last, layer);
  const size_t cols = static_cast<size_t>(begin.shape.back());
  assert(begin.begin <= end.begin && cols == static_cast<size_t>(end.shape.back()));
  const size_t rows = (end.begin + end.size - begin.begin) / cols;
  return {MatrixView<float>(values_.flat().data() + begin.begin, rows, cols),
          MatrixView<float>(gradients().data() + begin.begin, rows, cols), packed_at(begin.begin, rows)};
}

void Weights::keep_packed(const spec::ModelSpec& spec) {
  size_t bytes = 0;
  const auto keep = [&](const Entry& first, const Entry& last) {
    const size_t cols = static_cast<size_t>(first.shape.back()), count = spec::is_expert(first.weight.role) ? static_cast<size_t>(first.shape[0]) : 1;
    const size_t size = last.begin + last.size - first.begin;
    const Packed packed{first.begin, count, size / count / cols, cols, bytes};
    packed_.push_back(packed);
    bytes += count * packed_bytes(packed.rows, cols);
  };
  const auto rows_fit = [&](Role from, Role to, int layer) {  // together
    return from == to || std::ranges::none_of(entries_, [&](const Entry& e) {
      return e.weight.layer == layer && e.weight.role >= from && e.weight.role <= to && e.is_matrix() && e.shape[0] % kernel::kGemmLanes != 0;
    });
  };
  for (const Entry& entry : entries_) {
    const auto [role, layer, expert] = entry.weight;
    if (entry.size == 0) continue;
    if (spec.moe.ternary_experts && spec::is_expert(role)) continue;  // what is multiplied is made of them
    for (const auto& [first, last] : kPacked) {
      if (role == first && rows_fit(first, last, layer)) keep(entry, find(last, layer));
    }
    if (role == Role::Embedding && spec.tied_embeddings) keep(entry, entry);
  }
  std::ranges::sort(packed_, {}, &Packed::begin);
  packed_memory_ = Matrix<std::byte>::uninitialised(1, bytes);
  packed_is_stale_ = true;
}

// The one that this number is of.
const Weights::Packed* Weights::find_packed(size_t number) const {
  const auto after = std::ranges::upper_bound(packed_, number, {}, &Packed::begin);
  if (after == packed_.begin()) return nullptr;
  const Packed& packed = *std::prev(after);
  return number < packed.begin + packed.size() ? &packed : nullptr;
}

PackedMatrix Weights::packed_at(size_t begin, size_t rows) {
  const Packed* const packed = find_packed(begin);
  if (packed == nullptr || packed->begin != begin || packed->rows != rows) return {};
  if (packed_is_stale_) pack_all();
  return {packed_memory_.row(0).data() + packed->at, packed->rows, packed->cols};
}

PackedMatrix Weights::packed(Role role, int layer) {
  const Entry& entry = find(role, layer);
  return packed_at(entry.begin, static_cast<size_t>(entry.shape[entry.shape.size() - 2]));
}

size_t Weights::packed_together(const Entry& entry) const { return find_packed(entry.begin) == nullptr ? 0 : kernel::kGemmLanes; }

void Weights::pack(size_t begin, size_t size) {
  const Packed* const packed = find_packed(begin);
  if (packed == nullptr) return;
  const size_t row = (begin - packed->begin) / packed->cols, matrix = row / packed->rows;
  pack_rows({values_.flat().data() + begin, size / packed->cols, packed->cols}, row % packed->rows, packed->rows,
            packed_memory_.row(0).data() + packed->at + matrix * packed_bytes(packed->rows, packed->cols), kernel::GemmTo::Memory);
}

void Weights::pack_all() {
  for (const Packed& packed : packed_) {
    const size_t size = packed.rows * packed.cols;
    const size_t rows = 4 * kernel::kGemmLanes, pieces = (packed.rows + rows - 1) / rows;
    parallel_tasks(packed.count * pieces, [&](size_t i) {
      const size_t row = i % pieces * rows;
      pack(packed.begin + i / pieces * size + row * packed.cols, std::min(rows, packed.rows - row) * packed.cols);
    });
  }
  set_packed();
}

std::vector<TensorPart> Weights::tensors() const {
  std::vector<TensorPart> tensors;
  for (const Entry& entry : entries_) {
    const auto here = std::as_bytes(values().subspan(entry.begin, entry.size));
    tensors.push_back({format::TensorView{entry.name, spec::ElementType::F32, entry.shape, here}, entry.part()});
    tensors.back().here.shape = entry.whole_shape;
  }
  return tensors;
}

void Weights::initialise(const spec::ModelSpec& spec, uint64_t seed) {
  constexpr size_t kChunk = 1 << 14;
  for (size_t stream = 0; stream < entries_.size(); ++stream) {
    const Entry& entry = entries_[stream];
    const auto values = this->values().subspan(entry.begin, entry.size);
    const Role role = entry.weight.role;
    if (is_norm(role)) {
      std::ranges::fill(values, 1.0f);
    } else if (!entry.is_matrix() || role == Role::GatingResidual) {  // which begins without a say
      std::ranges::fill(values, 0.0f);
    } else {
      const float sigma = deviation(spec, role);
      const Part part = entry.part();
      parallel_tasks((values.size() + kChunk - 1) / kChunk, [&](size_t chunk) {
        const size_t first = chunk * kChunk, count = std::min(kChunk, values.size() - first);
        float* x = values.data() + first;
        for (const Stretch& stretch : part.middle(first, count).stretches()) {
          Random random(seed, stream, 2 * stretch.begin);  // a normal number takes two draws
          for (size_t i = 0; i < stretch.size; ++i) *x++ = sigma * static_cast<float>(random.normal());
        }
      });
    }
  }
}

void Weights::read(const std::vector<format::TensorView>& tensors, const std::string& where,
                   std::span<float> flat) const {
  std::map<std::string, const format::TensorView*> by_name;
  for (const format::TensorView& tensor : tensors) by_name[tensor.name] = &tensor;
  for (const Entry& entry : entries_) {
    const auto it = by_name.find(entry.name);
    require(it != by_name.end(), "{}: tensor {} is missing", where, entry.name);
    const format::TensorView& tensor = *it->second;
    require(tensor.type == spec::ElementType::F32 && tensor.shape == entry.whole_shape,
            "{}: tensor {} has another type or shape than config.json calls for", where, entry.name);
    const std::span whole(reinterpret_cast<const float*>(tensor.bytes.data()), tensor.bytes.size() / sizeof(float));
    entry.part().take(whole, flat.subspan(entry.begin, entry.size));
  }
}

}  // namespace moiety::train
