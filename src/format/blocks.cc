#include "format/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"

namespace moiety::format {
namespace {

using spec::ElementType;

int byte_at(const std::byte* p) { return static_cast<int>(*p); }

float half_at(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return half_to_float(bits);
}

void store_half(float value, std::byte* p) {
  const uint16_t bits = float_to_half(value);
  std::memcpy(p, &bits, 2);
}

uint32_t word_at(const std::byte* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}

// Blocks of 32

void decode_q8_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  for (size_t i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

// Elements j and j + 16 share a byte; `fifth` holds their fifth bits, element j's at bit j.
template <class Value>
void decode_nibbles(const std::byte* nibbles, uint32_t fifth, float* out, Value value) {
  for (size_t j = 0; j < 16; ++j) {
    out[j] = value((byte_at(nibbles + j) & 15) | static_cast<int>(fifth >> j & 1) << 4);
    out[j + 16] = value(byte_at(nibbles + j) >> 4 | static_cast<int>(fifth >> (j + 16) & 1) << 4);
  }
}

void decode_q4_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  decode_nibbles(block + 2, 0, out, [&](int q) { return scale * static_cast<float>(q - 8); });
}
void decode_q4_1(const std::byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  decode_nibbles(block + 4, 0, out, [&](int q) { return scale * static_cast<float>(q) + minimum; });
}
void decode_q5_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  decode_nibbles(block + 6, word_at(block + 2), out, [&](int q) { return scale * static_cast<float>(q - 16); });
}
void decode_q5_1(const std::byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  decode_nibbles(block + 8, word_at(block + 4), out, [&](int q) { return scale * static_cast<float>(q) + minimum; });
}
void decode_mxfp4(const std::byte* block, float* out) {
  const float scale = e8m0_to_float(static_cast<uint8_t>(*block));
  decode_nibbles(block + 1, 0, out, [&](int q) { return scale * e2m1_to_float(q); });
}

void decode_iq4_nl(const std::byte* block, float* out) {
  const float scale = half_at(block);
  decode_nibbles(block + 2, 0, out, [&](int q) { return scale * static_cast<float>(iq4_level(q)); });
}

// Blocks of 256

// Sixteen bytes of a four-bit scale below and a four-bit minimum above, one a sub-block of 16; then bit pairs, of each half
// of the block 32 bytes with a quarter of it in every two bits.
void decode_q2_k(const std::byte* block, float* out) {
  const float scale = half_at(block + 80), minimum = half_at(block + 82);
  for (size_t e = 0; e < 256; ++e) {
    const int q = byte_at(block + 16 + e / 128 * 32 + e % 32) >> e % 128 / 32 * 2 & 3, both = byte_at(block + e / 16);
    out[e] = scale * static_cast<float>(both & 15) * static_cast<float>(q) - minimum * static_cast<float>(both >> 4);
  }
}

// Third bits: element e's is bit e / 32 of byte e % 32. Then bit pairs as in Q2_K. The sixteen scales have six bits: their
// lower four are the lower nibbles of eight bytes, then the upper ones; their upper two are the columns of four bytes.
void decode_q3_k(const std::byte* block, float* out) {
  const std::byte *pairs = block + 32, *scales = block + 96;
  const float scale = half_at(block + 108);
  for (size_t sub = 0; sub < 16; ++sub) {
    const int low = byte_at(scales + sub % 8) >> sub / 8 * 4 & 15, high = byte_at(scales + 8 + sub % 4) >> sub / 4 * 2 & 3;
    const float sub_scale = scale * static_cast<float>((low | high << 4) - 32);
    for (size_t e = 16 * sub; e < 16 * sub + 16; ++e) {
      const int q = byte_at(pairs + e / 128 * 32 + e % 32) >> e % 128 / 32 * 2 & 3, third = byte_at(block + e % 32) >> e / 32 & 1;
      out[e] = sub_scale * static_cast<float>((q | third << 2) - 4);
    }
  }
}

// The scales and minima of the eight sub-blocks of Q4_K and Q5_K. The twelve bytes are three words of four: two whose bytes
// have six bits of the first four scales and minima, and above them the upper bits of the last four, whose lower halves are
// the nibbles of the third.
struct SubScales {
  float scales[8], minima[8];

  explicit SubScales(const std::byte* block) {
    const float scale = half_at(block), minimum = half_at(block + 2);
    for (size_t i = 0; i < 4; ++i) {
      const int a = byte_at(block + 4 + i), b = byte_at(block + 8 + i), c = byte_at(block + 12 + i);
      scales[i] = scale * static_cast<float>(a & 63);
      minima[i] = minimum * static_cast<float>(b & 63);
      scales[i + 4] = scale * static_cast<float>((c & 15) | (a >> 6) << 4);
      minima[i + 4] = minimum * static_cast<float>(c >> 4 | (b >> 6) << 4);
    }
  }
};

void decode_q4_k(const std::byte* block, float* out) {
  const SubScales s(block);
  for (size_t sub = 0; sub < 8; ++sub) {
    const std::byte* bytes = block + 16 + sub / 2 * 32;
    for (size_t i = 0; i < 32; ++i) {
      const int q = byte_at(bytes + i) >> sub % 2 * 4 & 15;
      *out++ = s.scales[sub] * static_cast<float>(q) - s.minima[sub];
    }
  }
}

void decode_q5_k(const std::byte* block, float* out) {
  const SubScales s(block);
  for (size_t sub = 0; sub < 8; ++sub) {
    const std::byte *bytes = block + 48 + sub / 2 * 32, *fifth = block + 16;
    for (size_t i = 0; i < 32; ++i) {
      const int q = (byte_at(bytes + i) >> sub % 2 * 4 & 15) | (byte_at(fifth + i) >> sub & 1) << 4;
      *out++ = s.scales[sub] * static_cast<float>(q) - s.minima[sub];
    }
  }
}

void decode_q6_k(const std::byte* block, float* out) {
  const float scale = half_at(block + 208);
  for (size_t half = 0; half < 2; ++half) {
    const std::byte *low = block + 64 * half, *high = block + 128 + 32 * half, *scales = block + 192 + 8 * half;
    for (size_t e = 0; e < 128; ++e) {
      const int q = (byte_at(low + e % 64) >> e / 64 * 4 & 15) | (byte_at(high + e % 32) >> e / 32 * 2 & 3) << 4;
      *out++ = scale * static_cast<float>(static_cast<int8_t>(scales[e / 16])) * static_cast<float>(q - 32);
    }
  }
}

// Eight blocks of IQ4_NL under one scale, each with a six-bit scale of its own: the upper two bits in one word, the lower
// four as nibbles.
void decode_iq4_xs(const std::byte* block, float* out) {
  const float scale = half_at(block);
  const int high = byte_at(block + 2) | byte_at(block + 3) << 8;
  for (size_t sub = 0; sub < 8; ++sub) {
    const int bits = (byte_at(block + 4 + sub / 2) >> sub % 2 * 4 & 15) | (high >> 2 * sub & 3) << 4;
    const float sub_scale = scale * static_cast<float>(bits - 32);
    decode_nibbles(block + 8 + 16 * sub, 0, out + 32 * sub,
                   [&](int q) { return sub_scale * static_cast<float>(iq4_level(q)); });
  }
}

// Encoders

// A quantum between 0 and `most`; what is no number becomes 0.
int quantum(float x, int most) {
  if (!(x > 0)) return 0;
  return x < static_cast<float>(most) ? static_cast<int>(x) : most;
}

float reciprocal(float scale) { return scale != 0 ? 1 / scale : 0; }

float largest_magnitude(const float* x) {
  float largest = 0;  // with its sign; of equals the first
  for (size_t i = 0; i < 32; ++i) {
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  }
  return largest;
}

void encode_q8_0(const float* x, std::byte* block) {
  const float scale = std::abs(largest_magnitude(x)) / 127;
  const float inverse = reciprocal(scale);
  store_half(scale, block);
  for (size_t i = 0; i < 32; ++i) {
    const float rounded = std::clamp(std::round(x[i] * inverse), -127.0f, 127.0f);
    block[2 + i] = static_cast<std::byte>(std::isnan(rounded) ? 0 : static_cast<int8_t>(rounded));
  }
}

// The quanta of 32 elements as nibbles and fifth bits.
template <class Quantum>
uint32_t encode_nibbles(std::byte* nibbles, Quantum quantum_of) {
  uint32_t fifth = 0;
  for (size_t j = 0; j < 16; ++j) {
    const int low = quantum_of(j), high = quantum_of(j + 16);
    nibbles[j] = static_cast<std::byte>((low & 15) | (high & 15) << 4);
    fifth |= static_cast<uint32_t>(low >> 4) << j | static_cast<uint32_t>(high >> 4) << (j + 16);
  }
  return fifth;
}

// Around zero: the element of the largest magnitude becomes the lowest quantum.
template <int kBits>
void encode_around_zero(const float* x, std::byte* block) {
  constexpr int kHalf = 1 << (kBits - 1);
  const float scale = largest_magnitude(x) / -kHalf;
  const float inverse = reciprocal(scale);
  store_half(scale, block);
  const uint32_t fifth = encode_nibbles(block + (kBits == 5 ? 6 : 2), [&](size_t j) {
    return quantum(x[j] * inverse + (kHalf + 0.5f), 2 * kHalf - 1);
  });
  if (kBits == 5) std::memcpy(block + 2, &fifth, 4);
}

// From the smallest element up.
template <int kBits>
void encode_from_minimum(const float* x, std::byte* block) {
  constexpr int kMost = (1 << kBits) - 1;
  const auto [smallest, largest] = std::minmax_element(x, x + 32);
  const float minimum = *smallest, scale = (*largest - minimum) / kMost;
  const float inverse = reciprocal(scale);
  store_half(scale, block);
  store_half(minimum, block + 2);
  const uint32_t fifth = encode_nibbles(block + (kBits == 5 ? 8 : 4), [&](size_t j) {
    return quantum((x[j] - minimum) * inverse + 0.5f, kMost);
  });
  if (kBits == 5) std::memcpy(block + 4, &fifth, 4);
}

// The nearest of the eight magnitudes, of two as near the smaller; zero has no sign.
int nearest_e2m1(float x) {
  int best = 0;
  for (int i = 1; i < 8; ++i) {
    if (std::abs(e2m1_to_float(i) - std::abs(x)) < std::abs(e2m1_to_float(best) - std::abs(x))) best = i;
  }
  return best != 0 && x < 0 ? best | 8 : best;
}

// The scale is the power of two that brings the largest magnitude between 4 and 8; what is then beyond 6 becomes 6.
void encode_mxfp4(const float* x, std::byte* block) {
  const float largest = std::abs(largest_magnitude(x));
  const int exponent = largest > 0 ? std::clamp(std::ilogb(largest), -125, 129) - 2 + 127 : 0;  // 0 to 254
  block[0] = static_cast<std::byte>(exponent);
  encode_nibbles(block + 1, [&](size_t j) { return nearest_e2m1(std::ldexp(x[j], 127 - exponent)); });
}

struct Row {
  ElementType type;
  DecodeBlock decode;
  EncodeBlock encode;
};
constexpr Row kBlocks[] = {
    {ElementType::Q8_0, decode_q8_0, encode_q8_0},
    {ElementType::Q4_0, decode_q4_0, encode_around_zero<4>},
    {ElementType::Q4_1, decode_q4_1, encode_from_minimum<4>},
    {ElementType::Q5_0, decode_q5_0, encode_around_zero<5>},
    {ElementType::Q5_1, decode_q5_1, encode_from_minimum<5>},
    {ElementType::Q2_K, decode_q2_k, nullptr},
    {ElementType::Q3_K, decode_q3_k, nullptr},
    {ElementType::Q4_K, decode_q4_k, nullptr},
    {ElementType::Q5_K, decode_q5_k, nullptr},
    {ElementType::Q6_K, decode_q6_k, nullptr},
    {ElementType::IQ4_NL, decode_iq4_nl, nullptr},
    {ElementType::IQ4_XS, decode_iq4_xs, nullptr},
    {ElementType::MXFP4, decode_mxfp4, encode_mxfp4},
};

const Row* find(ElementType type) {
  const auto row = std::find_if(std::begin(kBlocks), std::end(kBlocks), [&](const Row& r) { return r.type == type; });
  return row == std::end(kBlocks) ? nullptr : row;
}

}  // namespace

DecodeBlock block_decoder(ElementType type) {
  const Row* row = find(type);
  return row == nullptr ? nullptr : row->decode;
}

EncodeBlock block_encoder(ElementType type) {
  const Row* row = find(type);
  return row == nullptr ? nullptr : row->encode;
}

}  // namespace moiety::format
