// A tensor of any weight type into another type by all threads: rows are decoded, fitted to blocks (format/fit_blocks.h) and
// written in order, a few megabytes at a time.
#pragma once

#include <functional>

#include "base/file.h"
#include "base/thread_pool.h"
#include "format/importance.h"
#include "format/tensor.h"

namespace moiety::format {

struct Quantizer {
  ThreadPool& threads;
  const Importance* importance = nullptr;            // nullptr: all columns matter alike
  std::function<void(size_t elements)> progress = {};  // told of every few rows that are done

  // Appends the tensor's elements to the file; those of the same type pass through untouched. Throws Error(Input) where a part
  // holds a NaN or an infinity.
  void write(AtomicFile& file, const TensorSource& tensor) const;
};

}  // namespace moiety::format
