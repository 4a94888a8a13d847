// Some of many numbers, by their places.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moiety::train {

template <class T>
std::vector<T> picked(std::span<const T> from, std::span<const int32_t> which) {
  std::vector<T> some;
  some.reserve(which.size());
  for (const int32_t i : which) some.push_back(from[static_cast<size_t>(i)]);
  return some;
}

}  // namespace moiety::train
