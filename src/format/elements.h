// Elements from one type to another, plainly: for writing files and for the few tensors that the forward pass wants as
// floats. The fast paths over quantised weights are in kernel/.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace moiety::format {

// `bytes` hold out.size() elements of `type`, a weight type.
void to_floats(spec::ElementType type, std::span<const std::byte> bytes, std::span<float> out);
std::vector<float> to_floats(const TensorView& tensor);

// Rounds to nearest, ties to even; Q8_0 as ggml does: scale = max |x| / 127 a block. `out` has the bytes of
// floats.size() elements.
void from_floats(spec::ElementType type, std::span<const float> floats, std::span<std::byte> out);

// Appends the tensor's elements to the file, converted part by part. Throws Error(Input) where a part holds a NaN or an
// infinity: a broken model is not passed on.
void write_elements(AtomicFile& file, const TensorSource& tensor);

}  // namespace moiety::format
