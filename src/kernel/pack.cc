#include "kernel/packed.h"

#include <cstdint>
#include <cstring>

namespace moiety::kernel {
namespace {

using spec::ElementType;

int byte_at(const std::byte* p) { return static_cast<int>(*p); }

// Thirty-two quanta of one row, as bytes.
using Quanta = uint8_t[32];

// Which parts of a quantum are kept where.
struct Parts {
  bool nibbles = false;
  int pairs = -1, bits = -1;  // the bit of the quantum where they begin; -1: the type has none
  bool bytes = false;
};

// Eight groups of four quanta.
struct Groups {
  uint32_t g[8];
  explicit Groups(const Quanta& q) { std::memcpy(g, q, 32); }
};

void put(uint32_t group, size_t vector, size_t row, std::byte* out) { std::memcpy(out + 64 * vector + 4 * row, &group, 4); }

// The quanta of columns [32 * sub, 32 * sub + 32) of a block of `subs` times 32.
template <Parts kParts>
void place(const Quanta& q, size_t sub, size_t subs, size_t row, std::byte* out) {
  const Groups at(q);
  if constexpr (kParts.nibbles) {
    for (size_t j = 0; j < 4; ++j) {
      put((at.g[j] & 0x0f0f0f0f) | (at.g[j + 4] & 0x0f0f0f0f) << 4, 4 * sub + j, row, out);
    }
    out += 256 * subs;
  }
  if constexpr (kParts.pairs >= 0) {
    for (size_t j = 0; j < 2; ++j) {
      uint32_t all = 0;
      for (size_t f = 0; f < 4; ++f) all |= (at.g[4 * j + f] >> kParts.pairs & 0x03030303) << 2 * f;
      put(all, 2 * sub + j, row, out);
    }
    out += 128 * subs;
  }
  if constexpr (kParts.bits >= 0) {
    uint32_t all = 0;
    for (size_t i = 0; i < 8; ++i) all |= (at.g[i] >> kParts.bits & 0x01010101) << i;
    put(all, sub, row, out);
  }
  if constexpr (kParts.bytes) {
    for (size_t j = 0; j < 8; ++j) put(at.g[j], 8 * sub + j, row, out);
  }
}

// Sixteen values of six bits: the lower halves of values i and i + 4 (i < 4) in the nibbles of byte 16 i + row of a first
// vector, those of the last eight in a second one, and the upper two bits of value i in bits 2 (i / 4) of byte
// 16 (i % 4) + row of a third.
void place_six_bits(const uint8_t (&values)[16], size_t row, std::byte* out) {
  for (size_t i = 0; i < 4; ++i) {
    const auto put_at = [&](size_t vector, int value) { out[64 * vector + 16 * i + row] = static_cast<std::byte>(value); };
    put_at(0, (values[i] & 15) | (values[i + 4] & 15) << 4);
    put_at(1, (values[i + 8] & 15) | (values[i + 12] & 15) << 4);
    put_at(2, values[i] >> 4 | values[i + 4] >> 4 << 2 | values[i + 8] >> 4 << 4 | values[i + 12] >> 4 << 6);
  }
}

void place_half(const std::byte* half, size_t row, std::byte* out) { std::memcpy(out + 2 * row, half, 2); }

// Types: how one block of a row becomes part `row` of a packed block, quanta and scales.

// Elements j and j + 16 share a byte.
void read_nibbles(const std::byte* bytes, Quanta& q) {
  for (size_t j = 0; j < 16; ++j) {
    q[j] = static_cast<uint8_t>(bytes[j]) & 15;
    q[j + 16] = static_cast<uint8_t>(bytes[j]) >> 4;
  }
}
void read_fifth_bits(const std::byte* word, Quanta& q) {
  uint32_t bits;
  std::memcpy(&bits, word, 4);
  for (size_t j = 0; j < 32; ++j) q[j] |= static_cast<uint8_t>((bits >> j & 1) << 4);
}

// Blocks of 32: halves (kHalves of them), fifth bits, nibbles.
template <size_t kHalves, bool kFifth>
void pack_32(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  for (size_t i = 0; i < kHalves; ++i) place_half(block + 2 * i, row, scales + 32 * i);
  block += 2 * kHalves;
  Quanta q;
  read_nibbles(block + (kFifth ? 4 : 0), q);
  if (kFifth) read_fifth_bits(block, q);
  place<Parts{.nibbles = true, .bits = kFifth ? 4 : -1}>(q, 0, 1, row, quanta);
}

void pack_q8_0(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  place_half(block, row, scales);
  Quanta q;
  for (size_t j = 0; j < 32; ++j) q[j] = static_cast<uint8_t>(block[2 + j]) ^ 0x80;
  place<Parts{.bytes = true}>(q, 0, 1, row, quanta);
}

void pack_mxfp4(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  scales[row] = block[0];
  Quanta q;
  read_nibbles(block + 1, q);
  place<Parts{.nibbles = true}>(q, 0, 1, row, quanta);
}

// The eight scales and eight minima of Q4_K and Q5_K, from twelve bytes; see kernel/scalar.cc.
void read_k_scales(const std::byte* packed, uint8_t (&values)[16]) {
  for (size_t i = 0; i < 4; ++i) {
    const int a = byte_at(packed + i), b = byte_at(packed + 4 + i), c = byte_at(packed + 8 + i);
    values[i] = static_cast<uint8_t>(a & 63);
    values[i + 4] = static_cast<uint8_t>((c & 15) | a >> 6 << 4);
    values[i + 8] = static_cast<uint8_t>(b & 63);
    values[i + 12] = static_cast<uint8_t>(c >> 4 | b >> 6 << 4);
  }
}

template <bool kFifth>
void pack_q45_k(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  uint8_t values[16];
  read_k_scales(block + 4, values);
  place_six_bits(values, row, scales);
  place_half(block, row, scales + 192);
  place_half(block + 2, row, scales + 224);
  const std::byte *fifth = block + 16, *nibbles = block + (kFifth ? 48 : 16);
  for (size_t sub = 0; sub < 8; ++sub) {
    Quanta q;
    for (size_t i = 0; i < 32; ++i) q[i] = static_cast<uint8_t>(nibbles[sub / 2 * 32 + i]) >> sub % 2 * 4 & 15;
    if (kFifth) {
      for (size_t i = 0; i < 32; ++i) q[i] |= static_cast<uint8_t>((static_cast<uint8_t>(fifth[i]) >> sub & 1) << 4);
    }
    place<Parts{.nibbles = true, .bits = kFifth ? 4 : -1}>(q, sub, 8, row, quanta);
  }
}

// Bit pair `sub` of 256, whose halves have 32 bytes each.
uint8_t pair_at(const std::byte* pairs, size_t sub, size_t i) {
  return static_cast<uint8_t>(pairs[sub / 4 * 32 + i]) >> sub % 4 * 2 & 3;
}

void pack_q6_k(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  for (size_t i = 0; i < 16; ++i) scales[16 * i + row] = block[192 + i];
  place_half(block + 208, row, scales + 256);
  for (size_t sub = 0; sub < 8; ++sub) {
    Quanta q;
    const std::byte* low = block + sub / 4 * 64 + sub % 2 * 32;
    for (size_t i = 0; i < 32; ++i) {
      const uint8_t nibble = static_cast<uint8_t>(low[i]) >> sub % 4 / 2 * 4 & 15;
      q[i] = static_cast<uint8_t>(nibble | pair_at(block + 128, sub, i) << 4);
    }
    place<Parts{.nibbles = true, .pairs = 4}>(q, sub, 8, row, quanta);
  }
}

void pack_q2_k(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  for (size_t i = 0; i < 16; ++i) scales[16 * i + row] = block[i];
  place_half(block + 80, row, scales + 256);
  place_half(block + 82, row, scales + 288);
  for (size_t sub = 0; sub < 8; ++sub) {
    Quanta q;
    for (size_t i = 0; i < 32; ++i) q[i] = pair_at(block + 16, sub, i);
    place<Parts{.pairs = 0}>(q, sub, 8, row, quanta);
  }
}

void pack_q3_k(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  const std::byte* packed = block + 96;
  uint8_t values[16];
  for (size_t i = 0; i < 16; ++i) {
    const int low = byte_at(packed + i % 8) >> i / 8 * 4 & 15, high = byte_at(packed + 8 + i % 4) >> i / 4 * 2 & 3;
    values[i] = static_cast<uint8_t>(low | high << 4);
  }
  place_six_bits(values, row, scales);
  place_half(block + 108, row, scales + 192);
  for (size_t sub = 0; sub < 8; ++sub) {
    Quanta q;
    for (size_t i = 0; i < 32; ++i) {
      q[i] = static_cast<uint8_t>(pair_at(block + 32, sub, i) | (static_cast<uint8_t>(block[i]) >> sub & 1) << 2);
    }
    place<Parts{.pairs = 0, .bits = 2}>(q, sub, 8, row, quanta);
  }
}

void pack_iq4_xs(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  uint16_t upper;
  std::memcpy(&upper, block + 2, 2);
  for (size_t i = 0; i < 8; ++i) {
    const int nibble = byte_at(block + 4 + i / 2) >> i % 2 * 4 & 15;
    std::byte& low = scales[16 * (i % 4) + row];
    low = static_cast<std::byte>(i < 4 ? nibble : static_cast<int>(low) | nibble << 4);
    std::byte& high = scales[64 + 16 * (i % 2) + row];
    high = static_cast<std::byte>((i < 2 ? 0 : static_cast<int>(high)) | (upper >> 2 * i & 3) << i / 2 * 2);
  }
  place_half(block, row, scales + 96);
  for (size_t sub = 0; sub < 8; ++sub) {
    Quanta q;
    read_nibbles(block + 8 + 16 * sub, q);
    place<Parts{.nibbles = true}>(q, sub, 8, row, quanta);
  }
}

using PackBlock = void (*)(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales);
PackBlock packer(ElementType type) {
  switch (type) {
    case ElementType::Q8_0:
      return pack_q8_0;
    case ElementType::Q4_0:
    case ElementType::IQ4_NL:
      return pack_32<1, false>;
    case ElementType::Q4_1:
      return pack_32<2, false>;
    case ElementType::Q5_0:
      return pack_32<1, true>;
    case ElementType::Q5_1:
      return pack_32<2, true>;
    case ElementType::MXFP4:
      return pack_mxfp4;
    case ElementType::Q2_K:
      return pack_q2_k;
    case ElementType::Q3_K:
      return pack_q3_k;
    case ElementType::Q4_K:
      return pack_q45_k<false>;
    case ElementType::Q5_K:
      return pack_q45_k<true>;
    case ElementType::Q6_K:
      return pack_q6_k;
    case ElementType::IQ4_XS:
      return pack_iq4_xs;
    default:
      return nullptr;
  }
}

// Pairs of columns, filled up with zeros.
void pack_bf16_row(const std::byte* from, size_t cols, size_t row, std::byte* quanta) {
  for (size_t k = 0; k < cols; k += 2) std::memcpy(quanta + 32 * k + 4 * row, from + 2 * k, k + 1 < cols ? 4 : 2);
}

// Nibbles in their order, scales apart: turned into a block of MXFP4 on the way.
void pack_mxfp4_plane_block(const std::byte* nibbles, std::byte exponent, size_t row, std::byte* quanta, std::byte* scales) {
  std::byte block[17] = {exponent};
  for (size_t j = 0; j < 16; ++j) {
    const auto nibble = [&](size_t k) { return byte_at(nibbles + k / 2) >> k % 2 * 4 & 15; };
    block[1 + j] = static_cast<std::byte>(nibble(j) | nibble(j + 16) << 4);
  }
  pack_mxfp4(block, row, quanta, scales);
}

}  // namespace

void pack_strip(const WeightView& from, size_t strip, const PackedView& to, std::byte* out) {
  const ElementType type = to.type->type;
  const size_t first = strip * kStripRows;
  const bool has_gaps = from.rows - first < kStripRows || type == ElementType::BF16;
  if (has_gaps) std::memset(out, 0, to.strip_bytes());
  const PackBlock pack_block = packer(type);
  for (size_t row = 0; row < kStripRows && first + row < from.rows; ++row) {
    const std::byte* const in = from.row(first + row);
    if (type == ElementType::BF16) {
      pack_bf16_row(in, from.cols, row, out);
      continue;
    }
    const std::byte* const exponents = type == ElementType::MXFP4_PLANES ? from.scales.row(first + row) : nullptr;
    for (size_t b = 0; b < to.blocks(); ++b) {
      const auto [quanta, scales] = to.block_at(b);
      if (type == ElementType::MXFP4_PLANES) {
        const std::byte exponent = exponents == nullptr ? std::byte{127} : exponents[b];
        pack_mxfp4_plane_block(in + 16 * b, exponent, row, out + quanta, out + scales);
      } else {
        pack_block(in + b * spec::info(type).block_bytes, row, out + quanta, out + scales);
      }
    }
  }
}

}  // namespace moiety::kernel
