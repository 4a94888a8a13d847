// Moments in 8 bits a number: block-wise quantisation to the levels of a dynamic tree (Dettmers, Lewis, Shleifer and Zettlemoyer 2022,
// "8-bit Optimizers via Block-wise Quantization"). Each block of 256 numbers is divided by its largest magnitude; of what remains, in
// [0, 1], each decade down to 1e-7 has levels, twice as many as the one below it. 1.016 bytes a number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moiety::train {

enum class MomentSign {
  Either,    // first moments: a bit for the sign, 128 levels of magnitude
  Positive,  // second moments: 256 levels
};

constexpr size_t kQuantisedBlock = 256;
constexpr size_t quantised_blocks(size_t count) { return (count + kQuantisedBlock - 1) / kQuantisedBlock; }

// The levels in rising order, from 0 to 1: 128 or 256 of them.
std::span<const float> quantised_levels(MomentSign sign);

// Each number of one block to the nearest level, of two equally near the lower; returns the block's scale. All zeros have scale 0.
// What was quantised once and made numbers again is quantised to the same codes and scale.
float quantise_block(MomentSign sign, std::span<const float> x, std::span<uint8_t> codes);
void dequantise_block(MomentSign sign, std::span<const uint8_t> codes, float scale, std::span<float> x);

}  // namespace moiety::train
