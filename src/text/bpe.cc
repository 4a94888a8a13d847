#include "text/bpe.h"

#include <algorithm>
#include <cassert>
#include <climits>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

// Up to here looking through all pairs at each step beats a heap.
constexpr size_t kFew = 48;
constexpr uint32_t kNone = UINT32_MAX;

// Lowest rank first, then the leftmost; std::push_heap wants the opposite.
bool later(const Bpe::Candidate& a, const Bpe::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

std::array<int32_t, 256> printable_bytes(const spec::TokenizerSpec& spec) {
  std::array<int32_t, 256> ids;
  ids.fill(-1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    if (token.empty() || token.size() > 2) continue;
    const Utf8Char only = utf8_char(token, 0);
    if (only.kind != Utf8Char::Kind::Valid || only.bytes != token.size()) continue;
    if (const auto byte = byte_of(only.code)) ids[*byte] = static_cast<int32_t>(id);
  }
  return ids;
}

}  // namespace

Bpe::Bpe(const spec::TokenizerSpec& spec, TextIndex whole_pieces)
    : Bpe(spec, std::move(whole_pieces), spec::ranked_merges(spec)) {}

Bpe::Bpe(const spec::TokenizerSpec& spec, TextIndex whole_pieces,
         const std::vector<spec::RankedMerge>& merges)
    : of_bytes_(spec::is_byte_level(spec)),
      byte_ids_(of_bytes_ ? printable_bytes(spec) : byte_tokens(spec)),
      unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      word_prefix_(spec.word_prefix),
      word_suffix_(spec.word_suffix),
      merges_(merges),
      whole_pieces_(std::move(whole_pieces)) {
  if (of_bytes_) return;
  if (spec.word_prefix.empty() && spec.word_suffix.empty()) {
    characters_ = {character_tokens(spec)};
  } else {
    for (const bool is_first : {false, true}) {
      for (const bool is_last : {false, true}) {
        characters_.push_back(character_tokens(spec, is_first ? "" : spec.word_prefix,
                                               is_last ? spec.word_suffix : ""));
      }
    }
  }
  seams_.emplace(spec, merges, characters_[0]);
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  const int32_t* whole = whole_pieces_.size() == 0 ? nullptr : whole_pieces_.find(piece);
  if (whole != nullptr) return ids.push_back(*whole);
  for (size_t at = 0; at < piece.size();) {
    const size_t end = seams_ ? next_seam(piece, at) : piece.size();
    encode_between_seams(piece.substr(at, end - at), scratch, ids);
    at = end;
  }
}

void Bpe::encode_between_seams(std::string_view part, Scratch& scratch,
                               std::vector<int32_t>& ids) const {
  if (const PieceCache::Slot* known = scratch.cache.find(part)) {
    ids.insert(ids.end(), known->ids, known->ids + known->count);
    return;
  }
  const size_t first = ids.size();
  encode_uncached(part, scratch, ids);
  scratch.cache.store(part, ids.data() + first, ids.size() - first);
}

size_t Bpe::next_seam(std::string_view piece, size_t at) const {
  int32_t left = -1;
  while (at < piece.size()) {
    const Utf8Char next = utf8_char(piece, at);
    const int32_t right = characters_[0][next.code];
    // Unknown characters stay together: they may become one unknown token.
    if (left >= 0 && right >= 0 && seams_->between(left, right)) return at;
    left = right;
    at += next.bytes;
  }
  return at;
}

void Bpe::encode_uncached(std::string_view part, Scratch& scratch,
                          std::vector<int32_t>& ids) const {
  const size_t first = ids.size();
  if (of_bytes_) {
    append_bytes(part, ids);
  } else {
    append_characters(part, ids);
  }
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

const CharacterTable& Bpe::characters(bool is_first, bool is_last) const {
  return characters_.size() == 1 ? characters_[0] : characters_[is_first * 2 + is_last];
}

// The bytes of the character, and of what its place in the word puts before and after it.
bool Bpe::append_fallback(std::string_view character, bool is_first, bool is_last,
                          std::vector<int32_t>& ids) const {
  if (characters_.size() == 1) return append_byte_tokens(byte_ids_, character, ids);
  std::string text = is_first ? "" : word_prefix_;
  text.append(character).append(is_last ? word_suffix_ : "");
  return append_byte_tokens(byte_ids_, text, ids);
}

void Bpe::append_characters(std::string_view piece, std::vector<int32_t>& ids) const {
  bool unknown_waits = false;
  for (size_t at = 0; at < piece.size();) {
    const Utf8Char next = utf8_char(piece, at);
    const std::string_view bytes = piece.substr(at, next.bytes);
    const bool is_first = at == 0, is_last = at + next.bytes == piece.size();
    const int32_t id = characters(is_first, is_last)[next.code];
    at += next.bytes;
    if (id >= 0) {
      if (unknown_waits) ids.push_back(unknown_);
      unknown_waits = false;
      ids.push_back(id);
    } else if (!append_fallback(bytes, is_first, is_last, ids) && unknown_ >= 0) {
      // Hugging Face's library puts it before the next known character, after any bytes between.
      if (unknown_waits && !fuse_unknown_) ids.push_back(unknown_);
      unknown_waits = true;
    }
  }
  if (unknown_waits) ids.push_back(unknown_);
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
