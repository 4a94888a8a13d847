#include "text/unigram.h"

#include <algorithm>
#include <limits>

#include "text/characters.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr uint32_t kNotReached = UINT32_MAX;
constexpr int32_t kUnknownCharacter = -1;

}  // namespace

Unigram::Unigram(const spec::TokenizerSpec& spec)
    : like_sentencepiece_(spec.like_sentencepiece),
      byte_tokens_(byte_tokens(spec)),
      unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      scores_(spec.scores),
      user_defined_(spec.tokens.size()) {
  // sentencepiece looks for the greatest score from the smallest positive float on, so that for
  // scores below zero, which all are, it is that.
  double least = std::numeric_limits<double>::max();
  double greatest = std::numeric_limits<float>::min();
  std::vector<std::pair<std::string_view, int32_t>> found;
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    if (!is_found_in_text(spec, id)) continue;
    found.emplace_back(spec.tokens[id], id);
    user_defined_[id] = spec.type_of(id) == spec::TokenType::UserDefined;
    if (user_defined_[id]) continue;
    least = std::min(least, scores_[id]);
    greatest = std::max(greatest, scores_[id]);
  }
  greatest_score_ = greatest;
  unknown_score_ = found.empty() ? 0 : least - kUnknownPenalty;
  if (like_sentencepiece_) unknown_score_ = static_cast<float>(unknown_score_);
  trie_ = ByteTrie(std::move(found));
}

void Unigram::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (const PieceCache::Slot* known = scratch.cache.find(piece)) {
    ids.insert(ids.end(), known->ids, known->ids + known->count);
    return;
  }
  const size_t first = ids.size();
  find_paths(piece, scratch);
  append_tokens(piece, scratch, ids);
  scratch.cache.store(piece, ids.data() + first, ids.size() - first);
}

double Unigram::score_of(int32_t id, size_t length) const {
  if (!user_defined_[id] || !like_sentencepiece_) return scores_[id];
  return static_cast<double>(static_cast<float>(length) * static_cast<float>(greatest_score_)) -
         0.1;
}

// For each place that a path of tokens leads to, the best one's last token. sentencepiece keeps the
// sums in float and compares in double; in long texts near ties depend on it.
void Unigram::find_paths(std::string_view piece, Scratch& scratch) const {
  std::vector<PathEnd>& paths = scratch.paths;
  paths.assign(piece.size() + 1, {0, kNotReached, 0});
  const auto kept = [&](double score) {
    return like_sentencepiece_ ? static_cast<double>(static_cast<float>(score)) : score;
  };
  const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
    PathEnd& path = paths[end];
    if (path.begin == kNotReached || score > path.score)
      path = {kept(score), static_cast<uint32_t>(begin), id};
  };
  for (size_t at = 0; at < piece.size();) {
    const double so_far = paths[at].score;
    const size_t bytes = utf8_char(piece, at).bytes;
    bool whole_character = false;
    trie_.for_each_prefix(piece, at, [&](size_t length, int32_t id) {
      offer(at, at + length, score_of(id, length) + so_far, id);
      whole_character |= length == bytes;
    });
    if (!whole_character)
      offer(at, at + bytes, kept(unknown_score_ + so_far), kUnknownCharacter);
    at += bytes;
  }
}

void Unigram::append_tokens(std::string_view piece, Scratch& scratch,
                            std::vector<int32_t>& ids) const {
  const std::vector<PathEnd>& paths = scratch.paths;
  const auto is_unknown = [&](size_t end) {
    return paths[end].id == kUnknownCharacter || paths[end].id == unknown_;
  };
  const size_t first = ids.size();
  // From the end to the beginning, then turned round.
  for (size_t end = piece.size(); end > 0;) {
    size_t begin = paths[end].begin;
    if (!is_unknown(end)) {
      ids.push_back(paths[end].id);
    } else {
      const size_t last = begin;
      while (fuse_unknown_ && begin > 0 && is_unknown(begin)) begin = paths[begin].begin;
      if (begin == last && paths[end].id == unknown_) {
        ids.push_back(unknown_);  // written out in the text
      } else {
        append_unknown(piece.substr(begin, end - begin), ids);
      }
    }
    end = begin;
  }
  std::reverse(ids.begin() + static_cast<ptrdiff_t>(first), ids.end());
}

// What no token covers, backwards.
void Unigram::append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  const size_t first = ids.size();
  if (append_byte_tokens(byte_tokens_, text, ids)) {
    std::reverse(ids.begin() + static_cast<ptrdiff_t>(first), ids.end());
  } else if (unknown_ >= 0) {
    ids.push_back(unknown_);
  }
}

}  // namespace moiety::text
