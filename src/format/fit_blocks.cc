#include "format/fit_blocks.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "format/blocks.h"
#include "format/super_block.h"

namespace moiety::format {
namespace {

using spec::ElementType;

MOIETY_INLINE void store_half(float x, std::byte* p) {
  const uint16_t bits = float_to_half(x);
  std::memcpy(p, &bits, 2);
}

// Twice the four-bit floats.
struct DoubledE2m1 {
  MOIETY_INLINE static Lanes nearest(const Lanes& x) {
    const Lanes m = magnitude(x);
    const Lanes level = m < 5 ? least(rounded(m), all(4)) : m < 7 ? all(6) : m < 10 ? all(8) : all(12);
    return x < 0 ? -level : level;
  }
  static int nibble(int level) {
    int nibble = 0;
    while (2 * std::abs(e2m1_to_float(nibble)) < static_cast<float>(std::abs(level))) ++nibble;
    return level < 0 ? nibble | 8 : nibble;
  }
};

// The uneven levels of IQ4_NL and IQ4_XS.
struct Iq4Levels {
  static constexpr int kLowest = -127, kHighest = 113;
  static constexpr int kCells = 2 * (kHighest - kLowest);

  // By twice the distance from the lowest: levels lie at whole numbers, so that no cell has numbers nearest to different ones.
  static constexpr std::array<float, kCells + 1> kNearest = [] {
    std::array<float, kCells + 1> nearest{};
    for (int cell = 0; cell <= kCells; ++cell) {
      const double x = kLowest + (cell + 0.5) / 2;
      int best = iq4_level(0);
      for (int i = 1; i < 16; ++i) {
        const double off = x - iq4_level(i), best_off = x - best;
        if (off * off < best_off * best_off) best = iq4_level(i);
      }
      nearest[static_cast<size_t>(cell)] = static_cast<float>(best);
    }
    return nearest;
  }();

  MOIETY_INLINE static Lanes nearest(const Lanes& x) {
    const Lanes cell = rounded(2 * (least(most(x, all(kLowest)), all(kHighest)) - kLowest) - 0.5f);
    Lanes out;
    for (size_t lane = 0; lane < kLanes; ++lane) out[lane] = kNearest[static_cast<size_t>(std::max(0, static_cast<int>(cell[lane])))];
    return out;
  }
  static int nibble(int level) {
    for (int i = 0; i < 16; ++i) {
      if (iq4_level(i) == level) return i;
    }
    return 8;
  }
};

// Packing

std::byte byte(int value) { return static_cast<std::byte>(value); }
std::byte nibbles(int lower, int upper) { return byte((lower & 15) | (upper & 15) << 4); }

// Element j in the lower and j + 16 in the upper half of byte j.
void pack_nibbles_of_32(const int8_t* q, std::byte* out) {
  for (size_t j = 0; j < 16; ++j) out[j] = nibbles(q[j], q[j + 16]);
}
uint32_t fifth_bits(const int8_t* q) {
  uint32_t bits = 0;
  for (size_t j = 0; j < 32; ++j) bits |= static_cast<uint32_t>(q[j] >> 4 & 1) << j;
  return bits;
}
// Of each 64 elements 32 bytes, the first half below, the second above.
void pack_nibbles_of_64(const int8_t* q, std::byte* out) {
  for (size_t j = 0; j < 128; ++j) {
    const int8_t* pair = q + j / 32 * 64 + j % 32;
    out[j] = nibbles(pair[0], pair[32]);
  }
}
// Of each 128 elements 32 bytes, a quarter in every two bits.
void pack_bit_pairs(const int8_t* q, std::byte* out) {
  for (size_t j = 0; j < 64; ++j) {
    const int8_t* four = q + j / 32 * 128 + j % 32;
    out[j] = byte((four[0] & 3) | (four[32] & 3) << 2 | (four[64] & 3) << 4 | (four[96] & 3) << 6);
  }
}
// One bit of each element: that of element e at bit e / 32 of byte e % 32.
void pack_bits(const int8_t* q, int bit, std::byte* out) {
  for (size_t j = 0; j < 32; ++j) {
    int bits = 0;
    for (size_t e = j; e < 256; e += 32) bits |= (q[e] >> bit & 1) << e / 32;
    out[j] = byte(bits);
  }
}
void pack_k_scales(const uint8_t* k, const uint8_t* l, std::byte* out) {
  for (size_t i = 0; i < 4; ++i) {
    out[i] = byte(k[i] | k[i + 4] >> 4 << 6);
    out[i + 4] = byte(l[i] | l[i + 4] >> 4 << 6);
    out[i + 8] = nibbles(k[i + 4], l[i + 4]);
  }
}

// One kind of block after the other

MOIETY_FOR_EACH_PROCESSOR void fit_q2_k(const float* x, const float* w, std::byte* block) {
  const Affine<Integers<0, 3>, Integers<0, 15>, 16, 2> fit(x, w, {0.5f, 1.3f, 0.1f, 4});
  for (size_t i = 0; i < 16; ++i) block[i] = nibbles(fit.k[i], fit.l[i]);
  pack_bit_pairs(fit.levels, block + 16);
  store_half(fit.d, block + 80);
  store_half(fit.m, block + 82);
}

MOIETY_FOR_EACH_PROCESSOR void fit_q3_k(const float* x, const float* w, std::byte* block) {
  Scaled<Integers<-4, 3>, Integers<-32, 31>, 16, 2> fit(x, w, {0.8f, 1.6f, 0.08f});
  for (int8_t& q : fit.levels) q = static_cast<int8_t>(q + 4);
  pack_bits(fit.levels, 2, block);
  pack_bit_pairs(fit.levels, block + 32);
  for (size_t i = 0; i < 8; ++i) block[96 + i] = nibbles(fit.k[i] + 32, fit.k[i + 8] + 32);
  for (size_t i = 0; i < 4; ++i) {
    int high = 0;
    for (size_t j = 0; j < 4; ++j) high |= (fit.k[4 * j + i] + 32) >> 4 << 2 * j;
    block[104 + i] = byte(high);
  }
  store_half(fit.d, block + 108);
}

MOIETY_FOR_EACH_PROCESSOR void fit_q4_k(const float* x, const float* w, std::byte* block) {
  const Affine<Integers<0, 15>, Integers<0, 63>, 32, 1> fit(x, w, {0.8f, 1.3f, 0.025f, 5});
  store_half(fit.d, block);
  store_half(fit.m, block + 2);
  pack_k_scales(fit.k, fit.l, block + 4);
  pack_nibbles_of_64(fit.levels, block + 16);
}

MOIETY_FOR_EACH_PROCESSOR void fit_q5_k(const float* x, const float* w, std::byte* block) {
  const Affine<Integers<0, 31>, Integers<0, 63>, 32, 1> fit(x, w, {0.9f, 1.1f, 0.015f, 3});
  store_half(fit.d, block);
  store_half(fit.m, block + 2);
  pack_k_scales(fit.k, fit.l, block + 4);
  pack_bits(fit.levels, 4, block + 16);
  pack_nibbles_of_64(fit.levels, block + 48);
}

MOIETY_FOR_EACH_PROCESSOR void fit_q6_k(const float* x, const float* w, std::byte* block) {
  Scaled<Integers<-32, 31>, Integers<-128, 127>, 16, 2> fit(x, w, {0.95f, 1.1f, 0.02f});
  for (size_t e = 0; e < 128; ++e) {
    // Of each half 64 bytes of nibbles, two quarters below and two above, and 32 bytes of upper bit pairs
    const int8_t* q = fit.levels + e / 64 * 128 + e % 64;
    block[e] = nibbles(q[0] + 32, q[64] + 32);
  }
  for (int8_t& q : fit.levels) q = static_cast<int8_t>((q + 32) >> 4);
  pack_bit_pairs(fit.levels, block + 128);
  std::memcpy(block + 192, fit.k, 16);
  store_half(fit.d, block + 208);
}

MOIETY_FOR_EACH_PROCESSOR void fit_iq4_xs(const float* x, const float* w, std::byte* block) {
  Scaled<Iq4Levels, Integers<-32, 31>, 32, 1> fit(x, w, {0.85f, 1.3f, 0.05f});
  for (int8_t& q : fit.levels) q = static_cast<int8_t>(Iq4Levels::nibble(q));
  store_half(fit.d, block);
  int high = 0;
  for (size_t i = 0; i < 8; ++i) high |= (fit.k[i] + 32) >> 4 << 2 * i;
  block[2] = byte(high), block[3] = byte(high >> 8);
  for (size_t i = 0; i < 4; ++i) block[4 + i] = nibbles(fit.k[2 * i] + 32, fit.k[2 * i + 1] + 32);
  for (size_t i = 0; i < 8; ++i) pack_nibbles_of_32(fit.levels + 32 * i, block + 8 + 16 * i);
}

// Eight blocks of 32 at a time.

template <class Grid>
MOIETY_INLINE void fit_eight(const float* x, const float* w, const Search& search, float (&scales)[kLanes], int8_t* levels) {
  const Numbers<32> n(x, w);
  Lanes scale = fit_scale<Grid>(n, search.from, search.to, search.step).scale;
  for (size_t lane = 0; lane < kLanes; ++lane) scales[lane] = scale[lane] = half(scale[lane]);
  levels_of<Grid>(n, scale, Lanes{}, levels);
}
template <class Grid>
MOIETY_INLINE void fit_eight(const float* x, const float* w, const Search& search, float (&scales)[kLanes],
                             float (&minima)[kLanes], int8_t* levels) {
  const Numbers<32> n(x, w);
  AffineFit fit = fit_affine<Grid>(n, search.from, search.to, search.step, search.improvements, true);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    scales[lane] = fit.scale[lane] = half(fit.scale[lane]);
    minima[lane] = half(-fit.minimum[lane]);
    fit.minimum[lane] = -minima[lane];
  }
  levels_of<Grid>(n, fit.scale, fit.minimum, levels);
}

MOIETY_FOR_EACH_PROCESSOR void fit_q4_0(const float* x, const float* w, std::byte* blocks) {
  float scales[kLanes];
  int8_t levels[256];
  fit_eight<Integers<-8, 7>>(x, w, {0.8f, 1.4f, 0.05f}, scales, levels);
  for (int8_t& q : levels) q = static_cast<int8_t>(q + 8);
  for (size_t i = 0; i < 8; ++i) {
    store_half(scales[i], blocks + 18 * i);
    pack_nibbles_of_32(levels + 32 * i, blocks + 18 * i + 2);
  }
}
MOIETY_FOR_EACH_PROCESSOR void fit_q4_1(const float* x, const float* w, std::byte* blocks) {
  float scales[kLanes], minima[kLanes];
  int8_t levels[256];
  fit_eight<Integers<0, 15>>(x, w, {0.85f, 1.2f, 0.03f, 3}, scales, minima, levels);
  for (size_t i = 0; i < 8; ++i) {
    store_half(scales[i], blocks + 20 * i);
    store_half(minima[i], blocks + 20 * i + 2);
    pack_nibbles_of_32(levels + 32 * i, blocks + 20 * i + 4);
  }
}
MOIETY_FOR_EACH_PROCESSOR void fit_q5_0(const float* x, const float* w, std::byte* blocks) {
  float scales[kLanes];
  int8_t levels[256];
  fit_eight<Integers<-16, 15>>(x, w, {0.9f, 1.2f, 0.02f}, scales, levels);
  for (int8_t& q : levels) q = static_cast<int8_t>(q + 16);
  for (size_t i = 0; i < 8; ++i) {
    const uint32_t fifth = fifth_bits(levels + 32 * i);
    store_half(scales[i], blocks + 22 * i);
    std::memcpy(blocks + 22 * i + 2, &fifth, 4);
    pack_nibbles_of_32(levels + 32 * i, blocks + 22 * i + 6);
  }
}
MOIETY_FOR_EACH_PROCESSOR void fit_q5_1(const float* x, const float* w, std::byte* blocks) {
  float scales[kLanes], minima[kLanes];
  int8_t levels[256];
  fit_eight<Integers<0, 31>>(x, w, {0.9f, 1.1f, 0.015f, 3}, scales, minima, levels);
  for (size_t i = 0; i < 8; ++i) {
    const uint32_t fifth = fifth_bits(levels + 32 * i);
    store_half(scales[i], blocks + 24 * i);
    store_half(minima[i], blocks + 24 * i + 2);
    std::memcpy(blocks + 24 * i + 4, &fifth, 4);
    pack_nibbles_of_32(levels + 32 * i, blocks + 24 * i + 8);
  }
}
MOIETY_FOR_EACH_PROCESSOR void fit_q8_0(const float* x, const float* w, std::byte* blocks) {
  float scales[kLanes];
  int8_t levels[256];
  fit_eight<Integers<-127, 127>>(x, w, {0.99f, 1.02f, 0.005f}, scales, levels);
  for (size_t i = 0; i < 8; ++i) {
    store_half(scales[i], blocks + 34 * i);
    std::memcpy(blocks + 34 * i + 2, levels + 32 * i, 32);
  }
}
MOIETY_FOR_EACH_PROCESSOR void fit_iq4_nl(const float* x, const float* w, std::byte* blocks) {
  float scales[kLanes];
  int8_t levels[256];
  fit_eight<Iq4Levels>(x, w, {0.85f, 1.3f, 0.05f}, scales, levels);
  for (int8_t& q : levels) q = static_cast<int8_t>(Iq4Levels::nibble(q));
  for (size_t i = 0; i < 8; ++i) {
    store_half(scales[i], blocks + 18 * i);
    pack_nibbles_of_32(levels + 32 * i, blocks + 18 * i + 2);
  }
}

// The scales are powers of two: of three the best.
MOIETY_FOR_EACH_PROCESSOR void fit_mxfp4(const float* x, const float* w, std::byte* blocks) {
  const Numbers<32> n(x, w);
  Lanes largest{};
  for (const Lanes& value : n.x) largest = most(largest, magnitude(value));
  Lanes scale{}, best_error = all(INFINITY);
  int exponents[kLanes] = {};
  for (const int step : {-1, 0, 1}) {
    int tried[kLanes];
    Lanes other;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      tried[lane] = largest[lane] > 0 ? std::clamp(std::ilogb(largest[lane]) - 2 + 127 + step, 1, 254) : 1;
      other[lane] = e8m0_to_float(static_cast<uint8_t>(tried[lane])) / 2;
    }
    const Lanes error = scale_error<DoubledE2m1>(n, other);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (error[lane] < best_error[lane]) exponents[lane] = tried[lane], scale[lane] = other[lane], best_error[lane] = error[lane];
    }
  }
  int8_t levels[256];
  levels_of<DoubledE2m1>(n, scale, Lanes{}, levels);
  for (int8_t& q : levels) q = static_cast<int8_t>(DoubledE2m1::nibble(q));
  for (size_t i = 0; i < 8; ++i) {
    blocks[17 * i] = byte(exponents[i]);
    pack_nibbles_of_32(levels + 32 * i, blocks + 17 * i + 1);
  }
}

using Fit = void (*)(const float* x, const float* w, std::byte* blocks);  // 256 numbers
struct Row {
  ElementType type;
  Fit fit;
};
constexpr Row kFits[] = {
    {ElementType::Q8_0, fit_q8_0}, {ElementType::Q4_0, fit_q4_0}, {ElementType::Q4_1, fit_q4_1},
    {ElementType::Q5_0, fit_q5_0}, {ElementType::Q5_1, fit_q5_1}, {ElementType::Q2_K, fit_q2_k},
    {ElementType::Q3_K, fit_q3_k}, {ElementType::Q4_K, fit_q4_k}, {ElementType::Q5_K, fit_q5_k},
    {ElementType::Q6_K, fit_q6_k}, {ElementType::IQ4_NL, fit_iq4_nl}, {ElementType::IQ4_XS, fit_iq4_xs},
    {ElementType::MXFP4, fit_mxfp4},
};

Fit fit_of(ElementType type) {
  const auto row = std::find_if(std::begin(kFits), std::end(kFits), [&](const Row& r) { return r.type == type; });
  return row == std::end(kFits) ? nullptr : row->fit;
}

constexpr size_t kStep = 256;  // numbers at a time: the longest block, or eight of 32

// Weights between 0 and 1 of which some are not 0.
void settle(float (&weights)[kStep]) {
  float largest = 0;
  for (float& w : weights) {
    w = w > 0 && std::isfinite(w) ? w : 0;
    largest = std::max(largest, w);
  }
  for (float& w : weights) w = largest > 0 ? w / largest : 1;
}

}  // namespace

bool can_fit(ElementType type) { return fit_of(type) != nullptr; }

void fit_blocks(ElementType type, std::span<const float> x, std::span<const float> importance, std::span<std::byte> out) {
  const size_t block_elements = spec::info(type).block_elements;
  assert(can_fit(type) && x.size() % block_elements == 0 && out.size() == spec::bytes_of(type, x.size()));
  assert(importance.empty() || importance.size() == x.size());
  const Fit fit = fit_of(type);
  std::vector<std::byte> bytes(spec::bytes_of(type, kStep));
  for (size_t done = 0; done < x.size(); done += kStep) {
    const size_t count = std::min(kStep, x.size() - done);
    float values[kStep] = {}, weights[kStep] = {};
    for (size_t i = 0; i < count; ++i) {
      values[i] = std::isfinite(x[done + i]) ? std::clamp(x[done + i], -1e9f, 1e9f) : 0;
      weights[i] = importance.empty() ? 1 : importance[done + i];
    }
    settle(weights);
    fit(values, weights, bytes.data());
    std::memcpy(&out[spec::bytes_of(type, done)], bytes.data(), spec::bytes_of(type, count));
  }
}

}  // namespace moiety::format
