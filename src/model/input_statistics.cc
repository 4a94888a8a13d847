#include "model/input_statistics.h"

#include <algorithm>

namespace moiety::model {
namespace {

using spec::Role;

bool is_matrix(Role role, const std::vector<int64_t>& shape) {
  return shape.size() == 2 && shape[0] > 1 && shape[1] > 1 && role != Role::Router;
}

}  // namespace

InputStatistics::InputStatistics(const format::ModelFile& file)
    : observer_([this](const kernel::WeightView& w, std::span<const float* const> x) { add(w, x); }) {
  const spec::ModelSpec& spec = file.spec();
  const format::Family& family = format::closest_family(spec, format::FileKind::Gguf);
  for (const spec::Weight& weight : spec::weights_of(spec, true)) {
    const auto shape = spec::shape_of(spec, weight.role);
    if (!is_matrix(weight.role, shape) || (weight.role == Role::Embedding && !spec.tied_embeddings)) continue;
    const format::WeightName& row = *family.gguf.names.rows(weight.role).front();
    const bool is_stack = format::is_stack(row) && weight.expert >= 0;
    format::InputSums& sums = importance_.tensors[format::name_of(row, weight)];
    const size_t matrices = is_stack ? static_cast<size_t>(spec.moe.router.num_experts) : 1;
    sums.counts.resize(matrices);
    sums.squares.resize(matrices * static_cast<size_t>(shape[1]));
    places_[file.weight(weight).bytes.data()] = {&sums, is_stack ? static_cast<size_t>(weight.expert) : 0};
  }
}

void InputStatistics::add(const kernel::WeightView& w_NK, std::span<const float* const> x_TK) {
  const auto place = places_.find(w_NK.data);
  if (place == places_.end()) return;
  auto& [sums, matrix] = place->second;
  double* squares = sums->squares.data() + matrix * w_NK.cols;
  for (const float* x : x_TK) {
    for (size_t k = 0; k < w_NK.cols; ++k) squares[k] += double{x[k]} * x[k];
  }
  sums->counts[matrix] += static_cast<double>(x_TK.size());
}

}  // namespace moiety::model
