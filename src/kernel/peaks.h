// Loops that do one thing only, as fast as an instruction set can: what results are held against.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/kernels.h"

namespace moiety::kernel {

struct Peaks {
  // Runs `rounds` rounds of multiply-adds on numbers that stay in registers; returns how many operations that were, a
  // multiplication and an addition counted as two.
  using Loop = double (*)(size_t rounds) noexcept;

  Loop f32 = nullptr;
  Loop bf16 = nullptr;  // nullptr: no faster than f32
  Loop int8 = nullptr;  // likewise
  // Reads every byte; `bytes` is a multiple of 4096. What it returns only keeps the reads from being left out.
  float (*read)(const std::byte* data, size_t bytes) noexcept = nullptr;
};

const Peaks& peaks_of(const Kernels& kernels);

}  // namespace moiety::kernel
