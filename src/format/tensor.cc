#include "format/tensor.h"

#include <algorithm>

#include "base/error.h"

namespace moiety::format {

void refuse_overlaps(const std::vector<TensorView>& tensors, const std::string& file) {
  std::vector<const TensorView*> by_place;
  for (const TensorView& tensor : tensors) {
    if (!tensor.bytes.empty()) by_place.push_back(&tensor);
  }
  std::sort(by_place.begin(), by_place.end(),
            [](const auto* a, const auto* b) { return a->bytes.data() < b->bytes.data(); });
  for (size_t i = 1; i < by_place.size(); ++i) {
    const TensorView &before = *by_place[i - 1], &after = *by_place[i];
    require(before.bytes.data() + before.bytes.size() <= after.bytes.data(), "{}: tensors {} and {} overlap", file,
            before.name, after.name);
  }
}

}  // namespace moiety::format
