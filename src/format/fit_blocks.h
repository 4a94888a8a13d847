// Numbers to blocks by least squares: of all the blocks that a type has, one whose numbers lie close to what was given, closer
// than rounding under a scale taken from the largest does (format/blocks.h). Slower; for files that are made once.
#pragma once

#include <cstddef>
#include <span>

#include "spec/element_type.h"

namespace moiety::format {

// Whether fit_blocks takes the type.
bool can_fit(spec::ElementType type);

// Fills `out` with the whole blocks that hold `x`, seeking the least sum of importance * (x - x')^2; all are as important where
// `importance` is empty, or zero throughout a block. `importance` has as many numbers as `x`. What is no finite number counts
// as 0. The same bytes on every machine.
void fit_blocks(spec::ElementType type, std::span<const float> x, std::span<const float> importance,
                std::span<std::byte> out);

}  // namespace moiety::format
