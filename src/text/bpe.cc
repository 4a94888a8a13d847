#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <climits>
#include <cstring>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

// Up to here looking through all pairs at each step beats a heap.
constexpr size_t kFew = 48;
constexpr uint32_t kNone = UINT32_MAX;

uint64_t mix(uint64_t x) {
  x *= 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
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

// Lowest rank first, then the leftmost; std::push_heap wants the opposite.
bool later(const Bpe::Candidate& a, const Bpe::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

PairTable::PairTable(const std::vector<spec::TokenizerSpec::Merge>& merges)
    : slots_(std::bit_ceil(std::max<size_t>(16, merges.size() * 2))), mask_(slots_.size() - 1) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    // A pair named twice has its last rank.
    Slot* slot = slot_of(pair_of(merges[rank].left, merges[rank].right));
    slot->pair = pair_of(merges[rank].left, merges[rank].right);
    slot->merge = {static_cast<int32_t>(rank), merges[rank].result};
  }
}

PairTable::Slot* PairTable::slot_of(uint64_t pair) {
  size_t at = mix(pair) >> 20 & mask_;
  while (slots_[at].pair != kFree && slots_[at].pair != pair) at = (at + 1) & mask_;
  return &slots_[at];
}

const PairTable::Merge* PairTable::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  for (size_t at = mix(pair) >> 20 & mask_;; at = (at + 1) & mask_) {
    if (slots_[at].pair == pair) return &slots_[at].merge;
    if (slots_[at].pair == kFree) return nullptr;
  }
}

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

Bpe::Bpe(const spec::TokenizerSpec& spec,
         std::unordered_map<std::string_view, int32_t> whole_pieces)
    : unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      merges_(spec.merges),
      whole_pieces_(std::move(whole_pieces)) {
  byte_ids_.fill(-1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    if (token.empty() || token.size() > 2) continue;
    const Utf8Char only = utf8_char(token, 0);
    if (only.kind != Utf8Char::Kind::Valid || only.bytes != token.size()) continue;
    if (const auto byte = byte_of(only.code)) byte_ids_[*byte] = static_cast<int32_t>(id);
  }
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (const PieceCache::Slot* known = scratch.cache.find(piece)) {
    ids.insert(ids.end(), known->ids, known->ids + known->count);
    return;
  }
  const size_t first = ids.size();
  encode_uncached(piece, scratch, ids);
  scratch.cache.store(piece, ids.data() + first, ids.size() - first);
}

void Bpe::encode_uncached(std::string_view piece, Scratch& scratch,
                          std::vector<int32_t>& ids) const {
  if (!whole_pieces_.empty()) {
    if (const auto whole = whole_pieces_.find(piece); whole != whole_pieces_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  const size_t first = ids.size();
  append_bytes(piece, ids);
  if (ids.size() - first <= kFew) {
    join_few(ids, first);
  } else {
    join_many(scratch, ids, first);
  }
}

void Bpe::append_bytes(std::string_view piece, std::vector<int32_t>& ids) const {
  bool last_unknown = false;
  for (const char c : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id >= 0) {
      ids.push_back(id);
    } else if (unknown_ >= 0 && !(fuse_unknown_ && last_unknown)) {
      ids.push_back(unknown_);
    }
    last_unknown = id < 0;
  }
}

void Bpe::join_few(std::vector<int32_t>& ids, size_t first) const {
  int32_t* id = ids.data() + first;
  size_t count = ids.size() - first;
  if (count < 2) return;
  static constexpr PairTable::Merge kNever{INT_MAX, -1};
  const auto merge_at = [&](size_t i) {
    const PairTable::Merge* merge = merges_.find(id[i], id[i + 1]);
    return merge ? *merge : kNever;
  };
  std::array<PairTable::Merge, kFew> merges;  // of the pair that begins at each place
  for (size_t i = 0; i + 1 < count; ++i) merges[i] = merge_at(i);

  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == INT_MAX) break;
    id[best] = merges[best].result;
    std::copy(id + best + 2, id + count, id + best + 1);
    --count;
    if (best + 1 < count) {
      std::copy(merges.begin() + best + 2, merges.begin() + count, merges.begin() + best + 1);
      merges[best] = merge_at(best);
    }
    if (best > 0) merges[best - 1] = merge_at(best - 1);
  }
  ids.resize(first + count);
}

void Bpe::join_many(Scratch& scratch, std::vector<int32_t>& ids, size_t first) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<Candidate>& heap = scratch.heap;
  const uint32_t count = static_cast<uint32_t>(ids.size() - first);
  symbols.resize(count);
  for (uint32_t i = 0; i < count; ++i)
    symbols[i] = {ids[first + i], i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};

  heap.clear();
  const auto consider = [&](uint32_t at) {
    if (at == kNone || symbols[at].next == kNone) return false;
    const int32_t left = symbols[at].id, right = symbols[symbols[at].next].id;
    const PairTable::Merge* merge = merges_.find(left, right);
    if (merge != nullptr) heap.push_back({merge->rank, merge->result, left, right, at});
    return merge != nullptr;
  };
  for (uint32_t i = 0; i < count; ++i) consider(i);
  std::make_heap(heap.begin(), heap.end(), later);

  constexpr int32_t kGone = -1;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.at];
    if (left.id != best.left || left.next == kNone || symbols[left.next].id != best.right) continue;

    left.id = best.result;
    symbols[left.next].id = kGone;
    left.next = symbols[left.next].next;
    if (left.next != kNone) symbols[left.next].previous = best.at;
    if (consider(left.previous)) std::push_heap(heap.begin(), heap.end(), later);
    if (consider(best.at)) std::push_heap(heap.begin(), heap.end(), later);
  }

  ids.resize(first);
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace moiety::text
