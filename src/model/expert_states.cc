#include "model/expert_states.h"

#include <algorithm>

namespace moiety::model {

void ExpertStates::before(const StepPart& part, size_t at, std::span<float> numbers) const {
  if (part.first_position == 0) {
    std::ranges::fill(numbers, 0.0f);
  } else {
    std::ranges::copy(part.cache->states(part.first_position - 1).subspan(first_ + at, numbers.size()), numbers.begin());
  }
}

void ExpertStates::put(const StepPart& part, size_t at, size_t begin, size_t end, std::span<const float> numbers) const {
  for (size_t position = begin; position < end; ++position) {
    std::ranges::copy(numbers, part.cache->states(position).subspan(first_ + at, numbers.size()).begin());
  }
}

void ExpertStates::carry() const {
  if (count_ == 0) return;
  std::vector<float> numbers(count_);
  for (const StepPart& part : parts_) {
    before(part, 0, numbers);
    put(part, 0, part.first_position, part.first_position + part.tokens, numbers);
  }
}

}  // namespace moiety::model
