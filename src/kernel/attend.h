// How keys and values lie in a cache, and what the kernels of attention are asked. Attention over a sequence is a fold over
// blocks of kAttendBlock positions, counted from position 0: within a block plain softmax, from block to block a running
// maximum and sum (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao 2023, "FlashAttention-2").
// Pieces of kAttendPiece positions are folded each from nothing, so that threads may share a long sequence, and then into one
// another in order. A query's arithmetic depends on its own position alone, never on what it is computed together with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace moiety::kernel {

// What the numbers of a cache are kept in.
enum class KvType : uint8_t {
  F32,
  F16,
  BF16,
  Q8,  // signed bytes under a scale (f32): of keys one for kKeysPerScale numbers of a head, of values one a head; queries and
       // weights meet them as integers of 16 bits, so that sums are exact
};

inline constexpr size_t kAttendBlock = 256;   // positions
inline constexpr size_t kAttendPiece = 1024;  // positions, some blocks
inline constexpr size_t kAttendRows = 24;     // queries that one call takes at most
inline constexpr size_t kKvLanes = 16;        // numbers that lie side by side for one vector
inline constexpr size_t kValuePanel = 64;     // numbers of a value that lie together
inline constexpr size_t kKeysPerScale = 128;  // numbers of a key

constexpr size_t bytes_of(KvType type) { return type == KvType::F32 ? 4 : type == KvType::Q8 ? 1 : 2; }
// Numbers that one instruction multiplies and adds together lie next to each other.
constexpr size_t pair_of(KvType type) { return type == KvType::F32 || type == KvType::F16 ? 1 : 2; }
constexpr size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

// One head's keys and values of a block of positions, which are counted from its first, in the order in which tiles read them.
// Keys lie in groups of 16 positions, [group][dim / pair][16][pair], so that a vector holds a score a position. Values lie in
// panels of 64 dims, [panel][position / pair][dim][pair], so that a vector holds a number a dim. Dims are filled up with
// zeros, keys' to whole pairs, values' to 16.
struct KvView {
  KvType type = KvType::F32;
  size_t key_dim = 0, value_dim = 0;
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  // Of Q8: [key_scales_a_position()][kAttendBlock] and [kAttendBlock].
  const float* key_scales = nullptr;
  const float* value_scales = nullptr;

  size_t padded_key_dim() const { return round_up(key_dim, pair_of(type)); }
  size_t padded_value_dim() const { return round_up(value_dim, kKvLanes); }
  size_t key_scales_a_position() const { return (key_dim + kKeysPerScale - 1) / kKeysPerScale; }
  // Of the panel that begins with number `d` of a value.
  size_t panel_width(size_t d) const {
    return padded_value_dim() - d < kValuePanel ? padded_value_dim() - d : kValuePanel;
  }
  // Where a number lies, in numbers.
  size_t key_at(size_t position, size_t d) const {
    const size_t pair = pair_of(type);
    return (position / kKvLanes * padded_key_dim() + d / pair * pair) * kKvLanes + position % kKvLanes * pair + d % pair;
  }
  size_t value_at(size_t position, size_t d) const {
    const size_t pair = pair_of(type), panel = d / kValuePanel * kValuePanel;
    return panel * kAttendBlock + (position / pair * panel_width(panel) + d - panel) * pair + position % pair;
  }
};

// Number i of a cache, as it is without its scale.
inline float kv_number(KvType type, const std::byte* numbers, size_t i) {
  const std::byte* at = numbers + i * bytes_of(type);
  uint16_t bits = 0;
  float x = 0;
  switch (type) {
    case KvType::F32:
      std::memcpy(&x, at, 4);
      return x;
    case KvType::F16:
      std::memcpy(&bits, at, 2);
      return half_to_float(bits);
    case KvType::BF16:
      std::memcpy(&bits, at, 2);
      return bf16_to_float(bits);
    case KvType::Q8:
      return static_cast<float>(static_cast<int8_t>(*at));
  }
  return x;
}

// Queries against the same head: row r sees positions [first[r], end[r]).
struct AttendRows {
  size_t count = 0;                      // at most kAttendRows
  const float* const* query = nullptr;   // key dim numbers each
  const size_t *first = nullptr, *end = nullptr;
  float scale = 1;                       // of scores; they are powers of two, so log2(e) is part of it
  const KvView* next = nullptr;          // the block that will be asked for soon, if any
};

// What is known of a row after some blocks. Softmax: its largest score, the sum of 2^(score - largest), and the sum of values
// weighted so. A row that has seen nothing has -infinity, 0 and zeros. Stick-breaking (spec::AttentionWeigh): what is left of the stick
// when it comes to the positions before these, as `sum`, and the sum of values weighted by what was broken off. A row that has seen nothing has more than 1 and zeros.
struct AttendState {
  float* largest = nullptr;
  float* sum = nullptr;
  float* mixed = nullptr;  // value dim numbers a row, `stride` apart
  size_t stride = 0;       // at least the padded value dim
  bool breaks_stick = false;
};

inline constexpr float kWholeStick = 2;  // of which nothing has been seen

// How many floats of scratch a call wants.
constexpr size_t attend_scratch(size_t key_dim, size_t value_dim) {
  return kAttendRows * (round_up(key_dim, kKvLanes) + kAttendBlock + round_up(value_dim, kKvLanes)) + 2 * kAttendRows;
}

}  // namespace moiety::kernel
