#include "kernel/packed.h"

#include <cstdint>
#include <cstring>

namespace moiety::kernel {
namespace {

using spec::ElementType;

int byte_at(const std::byte* p) { return static_cast<int>(*p); }

// Thirty-two quanta of one row: eight groups of four, a byte each. Quanta of fewer bits are taken apart four at a time.
struct Groups {
  uint32_t g[8];
};

uint32_t word_at(const std::byte* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}
// Of each byte some bits from `bit` on.
uint32_t nibbles(uint32_t word, size_t bit) { return word >> bit & 0x0f0f0f0f; }
uint32_t pairs(uint32_t word, size_t bit) { return word >> bit & 0x03030303; }
uint32_t bits(uint32_t word, size_t bit) { return word >> bit & 0x01010101; }
// Four bits -> four bytes.
uint32_t spread(uint32_t four) { return four * 0x00204081 & 0x01010101; }

// Which parts of a quantum are kept where.
struct Parts {
  bool nibbles = false;
  int pairs = -1, bits = -1;  // the bit of the quantum where they begin; -1: the type has none
  bool bytes = false;
};

void put(uint32_t group, size_t vector, size_t row, std::byte* out) { std::memcpy(out + 64 * vector + 4 * row, &group, 4); }

// The quanta of columns [32 * sub, 32 * sub + 32) of a block of `subs` times 32.
template <Parts kParts>
void place(const Groups& at, size_t sub, size_t subs, size_t row, std::byte* out) {
  if constexpr (kParts.nibbles) {
    for (size_t j = 0; j < 4; ++j) {
      put(nibbles(at.g[j], 0) | nibbles(at.g[j + 4], 0) << 4, 4 * sub + j, row, out);
    }
    out += 256 * subs;
  }
  if constexpr (kParts.pairs >= 0) {
    for (size_t j = 0; j < 2; ++j) {
      uint32_t all = 0;
      for (size_t f = 0; f < 4; ++f) all |= pairs(at.g[4 * j + f], size_t{kParts.pairs}) << 2 * f;
      put(all, 2 * sub + j, row, out);
    }
    out += 128 * subs;
  }
  if constexpr (kParts.bits >= 0) {
    uint32_t all = 0;
    for (size_t i = 0; i < 8; ++i) all |= bits(at.g[i], size_t{kParts.bits}) << i;
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
Groups read_nibbles(const std::byte* bytes) {
  Groups q;
  for (size_t j = 0; j < 4; ++j) {
    q.g[j] = nibbles(word_at(bytes + 4 * j), 0);
    q.g[j + 4] = nibbles(word_at(bytes + 4 * j), 4);
  }
  return q;
}

// Blocks of 32: halves (kHalves of them), fifth bits, nibbles.
template <size_t kHalves, bool kFifth>
void pack_32(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  for (size_t i = 0; i < kHalves; ++i) place_half(block + 2 * i, row, scales + 32 * i);
  block += 2 * kHalves;
  Groups q = read_nibbles(block + (kFifth ? 4 : 0));
  for (size_t j = 0; kFifth && j < 8; ++j) q.g[j] |= spread(word_at(block) >> 4 * j & 15) << 4;
  place<Parts{.nibbles = true, .bits = kFifth ? 4 : -1}>(q, 0, 1, row, quanta);
}

void pack_q8_0(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  place_half(block, row, scales);
  Groups q;
  for (size_t j = 0; j < 8; ++j) q.g[j] = word_at(block + 2 + 4 * j) ^ 0x80808080;
  place<Parts{.bytes = true}>(q, 0, 1, row, quanta);
}

void pack_mxfp4(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  scales[row] = block[0];
  place<Parts{.nibbles = true}>(read_nibbles(block + 1), 0, 1, row, quanta);
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
  const std::byte *fifth = block + 16, *low = block + (kFifth ? 48 : 16);
  for (size_t sub = 0; sub < 8; ++sub) {
    Groups q;
    for (size_t i = 0; i < 8; ++i) {
      q.g[i] = nibbles(word_at(low + sub / 2 * 32 + 4 * i), sub % 2 * 4);
      if (kFifth) q.g[i] |= bits(word_at(fifth + 4 * i), sub) << 4;
    }
    place<Parts{.nibbles = true, .bits = kFifth ? 4 : -1}>(q, sub, 8, row, quanta);
  }
}

// Group i of the bit pairs of columns [32 * sub, 32 * sub + 32), of 256 whose halves have 32 bytes each.
uint32_t pairs_of_256(const std::byte* bytes, size_t sub, size_t i) { return pairs(word_at(bytes + sub / 4 * 32 + 4 * i), sub % 4 * 2); }

void pack_q6_k(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  for (size_t i = 0; i < 16; ++i) scales[16 * i + row] = block[192 + i];
  place_half(block + 208, row, scales + 256);
  for (size_t sub = 0; sub < 8; ++sub) {
    Groups q;
    const std::byte* low = block + sub / 4 * 64 + sub % 2 * 32;
    for (size_t i = 0; i < 8; ++i) q.g[i] = nibbles(word_at(low + 4 * i), sub % 4 / 2 * 4) | pairs_of_256(block + 128, sub, i) << 4;
    place<Parts{.nibbles = true, .pairs = 4}>(q, sub, 8, row, quanta);
  }
}

void pack_q2_k(const std::byte* block, size_t row, std::byte* quanta, std::byte* scales) {
  for (size_t i = 0; i < 16; ++i) scales[16 * i + row] = block[i];
  place_half(block + 80, row, scales + 256);
  place_half(block + 82, row, scales + 288);
  for (size_t sub = 0; sub < 8; ++sub) {
    Groups q;
    for (size_t i = 0; i < 8; ++i) q.g[i] = pairs_of_256(block + 16, sub, i);
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
    Groups q;
    for (size_t i = 0; i < 8; ++i) q.g[i] = pairs_of_256(block + 32, sub, i) | bits(word_at(block + 4 * i), sub) << 2;
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
    place<Parts{.nibbles = true}>(read_nibbles(block + 8 + 16 * sub), sub, 8, row, quanta);
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
  const size_t lines_a_row = to.strip_bytes() / 64 / kStripRows;
  for (size_t row = 0; row < kStripRows && first + row < from.rows; ++row) {
    const std::byte* const in = from.row(first + row);
    // Where the next strip goes: most likely this thread packs it, and its memory is far away.
    for (size_t i = 0; i < lines_a_row; ++i) __builtin_prefetch(out + to.strip_bytes() + 64 * (row * lines_a_row + i), 1);
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
