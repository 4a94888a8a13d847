#include "text/piece_cache.h"

#include <algorithm>
#include <cstring>

namespace moiety::text {
namespace {

uint64_t mix(uint64_t x) {
  x *= 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

uint64_t hash_of(std::string_view piece) {
  uint64_t hash = piece.size();
  while (piece.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, piece.data(), 8);
    hash = mix(hash ^ word);
    piece.remove_prefix(8);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, piece.data(), piece.size());
  return mix(mix(hash ^ rest));
}

}  // namespace

const PieceCache::Slot* PieceCache::find(std::string_view piece) const {
  if (piece.size() > kLongestPiece) return nullptr;
  const Slot& slot = slots_[hash_of(piece) >> 20 & (kSlots - 1)];
  const bool same = slot.length == piece.size() && !piece.empty() &&
                    std::memcmp(slot.piece, piece.data(), piece.size()) == 0;
  return same ? &slot : nullptr;
}

void PieceCache::store(std::string_view piece, const int32_t* ids, size_t count) {
  if (piece.size() > kLongestPiece || count > kMostIds) return;
  Slot& slot = slots_[hash_of(piece) >> 20 & (kSlots - 1)];
  slot.length = static_cast<uint8_t>(piece.size());
  slot.count = static_cast<uint8_t>(count);
  std::copy(piece.begin(), piece.end(), slot.piece);
  std::copy(ids, ids + count, slot.ids);
}

}  // namespace moiety::text
