// Remembers what short pieces of text became: words come again and again. Bounded, and never
// changes a result.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace moiety::text {

class PieceCache {
 public:
  static constexpr size_t kLongestPiece = 30, kMostIds = 8;
  PieceCache() : slots_(kSlots) {}

  // Null unless this very piece was stored and not overwritten since.
  struct Slot {
    uint8_t length = 0, count = 0;
    char piece[kLongestPiece];
    int32_t ids[kMostIds];
  };
  const Slot* find(std::string_view piece) const;
  void store(std::string_view piece, const int32_t* ids, size_t count);

 private:
  static constexpr size_t kSlots = size_t{1} << 15;
  std::vector<Slot> slots_;
};

}  // namespace moiety::text
