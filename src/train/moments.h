// What AdamW remembers of a stretch of weights between two steps, as bytes in one of several forms.
#pragma once

#include <cstddef>
#include <span>

#include "train/loops.h"

namespace moiety::train {

enum class MomentForm {
  F32,    // both moments: 8 bytes a weight
  Int8,   // both in 8 bits, block by block (train/quantised_moment.h): 2.03 bytes a weight
  First,  // the first alone, in f32: 4 bytes; the second is kept elsewhere
  None,
};
enum class Moment { First, Second };

// Of the state of so many weights; zeros are the state before the first step.
size_t state_bytes(MomentForm form, size_t weights);

// One AdamW step (F32 and Int8).
void adamw(MomentForm form, const AdamStep& step, ConstFloats gradient, Floats weight, std::span<std::byte> state);

// Whether the form has this moment; and its numbers, out of the state and into it.
bool has_moment(MomentForm form, Moment which);
void unpack_moment(MomentForm form, Moment which, std::span<const std::byte> state, Floats numbers);
void pack_moment(MomentForm form, Moment which, ConstFloats numbers, std::span<std::byte> state);

// The f32 numbers of a moment, where the form has them as they are.
Floats moment_in_place(MomentForm form, Moment which, size_t weights, std::span<std::byte> state);

}  // namespace moiety::train
