// NumPy's .npy file, version 1.0 (numpy.org/neps/nep-0001-npy-format.html): f32, i32 and i64 arrays in C order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/file.h"

namespace moiety::format {

void write_npy(const fs::path& path, std::span<const float> values, const std::vector<int64_t>& shape);

template <class T>
struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<T> values;
};
// Throws Error(Input) unless the file holds little-endian f4, or i4 or i8, in C order.
NpyArray<float> read_npy_floats(const fs::path& path);
NpyArray<int64_t> read_npy_integers(const fs::path& path);

}  // namespace moiety::format
