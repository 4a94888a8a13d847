// A tensor of any weight type into another type by all threads: rows are decoded, fitted to blocks (format/fit_blocks.h) and
// written in order, a few megabytes at a time.
#pragma once

#include <functional>

#include "base/file.h"
#include "base/thread_pool.h"
#include "format/importance.h"
#include "format/tensor.h"

namespace moiety::format {

// A row of numbers into whole blocks of `type`, by least squares weighed by `importance`, a number a column or none, if the type
// is one that can be fitted. Throws Error(Input) naming the tensor if one is a NaN or an infinity.
void encode_row(spec::ElementType type, std::span<const float> row, std::span<const float> importance, const std::string& tensor,
                std::span<std::byte> out);

struct Quantizer {
  ThreadPool& threads;
  const Importance* importance = nullptr;            // nullptr: all columns matter alike
  std::function<void(size_t elements)> progress = {};  // told of every few rows that are done

  // Appends the tensor's elements to the file; those of the same type pass through untouched. Throws Error(Input) where a part
  // holds a NaN or an infinity.
  void write(AtomicFile& file, const TensorSource& tensor) const;
};

}  // namespace moiety::format
