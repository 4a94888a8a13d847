// Elements from one type to another, plainly: for writing files and for the few tensors that the forward pass wants as
// floats. The fast paths over quantised weights are in kernel/.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace moiety::format {

// `bytes` hold out.size() elements of `type`, a weight type; scales that lie apart are taken as 1.
void to_floats(spec::ElementType type, std::span<const std::byte> bytes, std::span<float> out);
std::vector<float> to_floats(const TensorView& tensor);

// Row `row` of a matrix, whose bytes begin at `bytes`: out.size() elements times the scales of that row.
void row_to_floats(spec::ElementType type, const std::byte* bytes, const spec::Scales& scales, size_t row,
                   std::span<float> out);

// Whether from_floats takes the type.
bool can_write(spec::ElementType type);
// For sentences: "F32, F16, …".
std::string writable_type_names();
// Rounds to nearest, ties to even; simple blocks as ggml does (format/blocks.h), others by least squares. `out` has the bytes of floats.size() elements.
void from_floats(spec::ElementType type, std::span<const float> floats, std::span<std::byte> out);

// Appends the tensor's elements to the file, converted part by part; those of the same type pass through untouched. Throws
// Error(Input) where a part holds a NaN or an infinity: a broken model is not passed on.
void write_elements(AtomicFile& file, const TensorSource& tensor);

}  // namespace moiety::format
