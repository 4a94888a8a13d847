#include "train/quantised_moment.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <vector>

#include "train/each_isa.h"

namespace moiety::train {
namespace {

// A magnitude in [0, 1] finds its level by the upper bits of its float: a cell between two neighbouring values of these bits holds no
// more than one border between levels.
constexpr uint32_t kCellBits = 16, kFirstCell = (127u - 24) << 7, kLastCell = 127u << 7, kCells = kLastCell - kFirstCell + 1;
constexpr float kSmallestScale = 1e-30f;  // its levels are normal numbers still

struct Levels {
  std::vector<float> value;           // rising
  std::array<float, 256> border{};    // between a level and the next
  std::array<int32_t, kCells> cell{};  // the level of the cell's lower end

  // Decades from 1e-7 up, each with twice the levels of the one below: the middles of equal parts of its [0.1, 1].
  explicit Levels(MomentSign sign) {
    value.push_back(0);
    for (int decade = 0, parts = sign == MomentSign::Either ? 1 : 2; decade < 7; ++decade, parts *= 2) {
      for (int i = 0; i < parts; ++i) {
        value.push_back(static_cast<float>(std::pow(10.0, decade - 6) * (0.1 + 0.9 * (i + 0.5) / parts)));
      }
    }
    // With 1, which a block's largest magnitude always is, there would be 129 levels beside a sign.
    if (sign == MomentSign::Either) value.erase(value.begin() + 1);
    value.push_back(1);
    for (size_t i = 0; i + 1 < value.size(); ++i) border[i] = (value[i] + value[i + 1]) / 2;
    border[value.size() - 1] = 2;
    for (uint32_t c = 0; c < kCells; ++c) {
      const float low = c == 0 ? 0.0f : std::bit_cast<float>((kFirstCell + c) << kCellBits);
      cell[c] = static_cast<int32_t>(std::ranges::lower_bound(border.begin(), border.begin() + static_cast<ptrdiff_t>(value.size()), low) -
                                     border.begin());
    }
  }
};

const Levels& levels(MomentSign sign) {
  static const Levels either(MomentSign::Either), positive(MomentSign::Positive);
  return sign == MomentSign::Either ? either : positive;
}

MOIETY_EACH_ISA uint32_t largest_magnitude_bits(const float* x, size_t size) {
  uint32_t largest = 0;
  for (size_t i = 0; i < size; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

// `sign_bit` is 0x80 where the code holds one.
MOIETY_EACH_ISA void encode(const Levels& levels, const float* __restrict x, size_t size, float inverse, uint32_t sign_bit,
                            uint8_t* __restrict codes) {
  const int32_t* __restrict cells = levels.cell.data();
  const float* __restrict border = levels.border.data();
  for (size_t i = 0; i < size; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]);
    const float magnitude = std::bit_cast<float>(bits & 0x7fffffffu) * inverse;
    const int32_t cell = static_cast<int32_t>(std::bit_cast<uint32_t>(magnitude) >> kCellBits) - static_cast<int32_t>(kFirstCell);
    const int32_t level = cells[std::clamp(cell, 0, static_cast<int32_t>(kCells) - 1)];
    const int32_t up = magnitude > border[level] ? 1 : 0;
    codes[i] = static_cast<uint8_t>(static_cast<uint32_t>(level + up) | ((bits >> 24) & sign_bit));
  }
}

MOIETY_EACH_ISA void decode(const float* __restrict value, const uint8_t* __restrict codes, size_t size, float scale, uint32_t sign_bit,
                            float* __restrict x) {
  for (size_t i = 0; i < size; ++i) {
    const uint32_t code = codes[i];
    const float magnitude = value[code & ~sign_bit] * scale;
    x[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | ((code & sign_bit) << 24));
  }
}

uint32_t sign_bit_of(MomentSign sign) { return sign == MomentSign::Either ? 0x80u : 0u; }

}  // namespace

std::span<const float> quantised_levels(MomentSign sign) { return levels(sign).value; }

float quantise_block(MomentSign sign, std::span<const float> x, std::span<uint8_t> codes) {
  assert(x.size() == codes.size() && x.size() <= kQuantisedBlock);
  const float scale = std::bit_cast<float>(largest_magnitude_bits(x.data(), x.size()));
  if (!(scale > kSmallestScale)) {
    std::ranges::fill(codes, uint8_t{0});
    return 0;
  }
  encode(levels(sign), x.data(), x.size(), 1.0f / scale, sign_bit_of(sign), codes.data());
  return scale;
}

void dequantise_block(MomentSign sign, std::span<const uint8_t> codes, float scale, std::span<float> x) {
  assert(x.size() == codes.size());
  decode(levels(sign).value.data(), codes.data(), codes.size(), scale, sign_bit_of(sign), x.data());
}

}  // namespace moiety::train
