// Byte-pair encoding of one piece of text: bytes become ids, then the pair that was learnt first is
// joined, again and again. Time n log n for a piece of n bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace moiety::text {

// What is known of each pair of ids; an open-addressed hash table.
class PairTable {
 public:
  struct Merge {
    int32_t rank = -1, result = -1;
  };
  explicit PairTable(const std::vector<spec::TokenizerSpec::Merge>& merges);
  const Merge* find(int32_t left, int32_t right) const;  // null if the pair is never joined

 private:
  struct Slot {
    uint64_t pair = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};
  Slot* slot_of(uint64_t pair);

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

// Remembers what short pieces became: words come again and again. Bounded, and never changes a
// result.
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

class Bpe {
 public:
  // `whole_pieces`: pieces that are taken as they are, whatever the merges say; empty in most
  // tokenizers.
  Bpe(const spec::TokenizerSpec& spec, std::unordered_map<std::string_view, int32_t> whole_pieces);

  struct Candidate {
    int32_t rank, result;
    int32_t left, right;  // the ids when it was found; if they have changed since, it is stale
    uint32_t at;
  };
  struct Symbol {
    int32_t id;
    uint32_t previous, next;
  };
  struct Scratch {
    PieceCache cache;
    std::vector<Candidate> heap;
    std::vector<Symbol> symbols;
  };
  // Appends the ids of the piece.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  void append_bytes(std::string_view piece, std::vector<int32_t>& ids) const;
  void encode_uncached(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;
  void join_few(std::vector<int32_t>& ids, size_t first) const;
  void join_many(Scratch& scratch, std::vector<int32_t>& ids, size_t first) const;

  std::array<int32_t, 256> byte_ids_;  // -1: no token
  int32_t unknown_;
  bool fuse_unknown_;
  PairTable merges_;
  std::unordered_map<std::string_view, int32_t> whole_pieces_;
};

}  // namespace moiety::text
