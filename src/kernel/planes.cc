#include "kernel/planes.h"

#include <cassert>
#include <cstdint>
#include <cstring>

namespace moiety::kernel {
namespace {

using spec::ElementType;

constexpr size_t kNibbles = 256, kScales = 32;  // bytes of a block of a strip, in either plane and in the upper one

// Calls body(block, upper, lower) for each block of a strip: where in it, and in those of its planes, the block's parts are.
template <class Body>
void for_each_block(const PackedView& whole, const Body& body) {
  assert(whole.type->type == ElementType::Q8_0);
  const PackedView upper{packed_type(ElementType::Q8_0_UPPER), nullptr, whole.rows, whole.cols};
  for (size_t b = 0; b < whole.blocks(); ++b) body(whole.block_at(b), upper.block_at(b), b * kNibbles);
}

size_t upper_strip_bytes(const PackedView& whole) { return packed_type(ElementType::Q8_0_UPPER)->strip_bytes(whole.cols); }
size_t lower_strip_bytes(const PackedView& whole) { return spec::packed_layout(ElementType::Q8_0_LOWER)->strip_bytes(whole.cols); }

// Groups of columns j and j + 4, for j < 4, share the nibbles of a byte.
void split_quanta(const uint8_t* __restrict quanta, uint8_t* __restrict upper, uint8_t* __restrict lower) {
  for (size_t i = 0; i < kNibbles; ++i) {
    const uint8_t first = quanta[i], second = quanta[kNibbles + i];
    upper[i] = static_cast<uint8_t>(first >> 4 | (second & 0xf0));
    lower[i] = static_cast<uint8_t>((first & 15) | second << 4);
  }
}
void merge_quanta(const uint8_t* __restrict upper, const uint8_t* __restrict lower, uint8_t* __restrict quanta) {
  for (size_t i = 0; i < kNibbles; ++i) {
    quanta[i] = static_cast<uint8_t>(upper[i] << 4 | (lower[i] & 15));
    quanta[kNibbles + i] = static_cast<uint8_t>((upper[i] & 0xf0) | lower[i] >> 4);
  }
}

const uint8_t* numbers(const std::byte* bytes) { return reinterpret_cast<const uint8_t*>(bytes); }
uint8_t* numbers(std::byte* bytes) { return reinterpret_cast<uint8_t*>(bytes); }

// What fills up the last line of a strip is zeros.
void fill_up(std::byte* strip, size_t used, size_t all) { std::memset(strip + used, 0, all - used); }

}  // namespace

void split_strip(const PackedView& whole, size_t strip, std::byte* upper, std::byte* lower) {
  const std::byte* const from = whole.strip(strip);
  for_each_block(whole, [&](PackedView::Place block, PackedView::Place above, size_t below) {
    split_quanta(numbers(from + block.quanta), numbers(upper + above.quanta), numbers(lower + below));
    std::memcpy(upper + above.scales, from + block.scales, kScales);
  });
  fill_up(upper, whole.blocks() * (kNibbles + kScales), upper_strip_bytes(whole));
}

void merge_strip(const Planes& planes, size_t strip, const PackedView& whole, std::byte* out) {
  const std::byte* const upper = planes.upper + strip * upper_strip_bytes(whole);
  const std::byte* const lower = planes.lower + strip * lower_strip_bytes(whole);
  for_each_block(whole, [&](PackedView::Place block, PackedView::Place above, size_t below) {
    merge_quanta(numbers(upper + above.quanta), numbers(lower + below), numbers(out + block.quanta));
    std::memcpy(out + block.scales, upper + above.scales, kScales);
  });
  fill_up(out, whole.blocks() * (2 * kNibbles + kScales), whole.strip_bytes());
}

}  // namespace moiety::kernel
