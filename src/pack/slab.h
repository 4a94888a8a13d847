// A matrix of an expert into a slab of a packed file: in another type if that is wanted, then in the kernels' layout.
#pragma once

#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "format/tensor.h"

namespace moiety::pack {

// The bytes of format::slab_bytes. `from` is [rows, cols] of any weight type; where `to`, or what it is a plane of, holds other numbers
// than it does (format::gguf_type), they are fitted to it, with `importance` a column or none. Throws Error(Input) if one is a NaN or an
// infinity.
std::vector<std::byte> make_slab(ThreadPool& threads, const format::TensorView& from, spec::ElementType to,
                                 std::span<const float> importance);

}  // namespace moiety::pack
