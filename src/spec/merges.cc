#include "spec/merges.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "base/text_index.h"

namespace moiety::spec {
namespace {

bool can_be_joined(const TokenizerSpec& spec, int32_t id) {
  const TokenType type = spec.type_of(id);
  return (type == TokenType::Normal || type == TokenType::UserDefined) &&
         id != spec.unknown && spec.tokens[id].size() <= kLongestScoredToken;
}

TextIndex ids_that_join(const TokenizerSpec& spec) {
  TextIndex ids(spec.tokens.size());
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    if (!spec.tokens[id].empty() && can_be_joined(spec, id)) ids.insert(spec.tokens[id], id);
  }
  return ids;
}

// Calls body(merge) for every way to make the token of two others.
template <class Body>
void for_each_cut(const TokenizerSpec& spec, const TextIndex& ids, int32_t id, Body body) {
  const std::string_view token = spec.tokens[id];
  for (size_t at = 1; at < token.size(); ++at) {
    if ((static_cast<uint8_t>(token[at]) & 0xc0) == 0x80) continue;  // inside a character
    const int32_t* left = ids.find(token.substr(0, at));
    const int32_t* right = left == nullptr ? nullptr : ids.find(token.substr(at));
    if (right != nullptr) body(TokenizerSpec::Merge{*left, *right, id});
  }
}

std::vector<RankedMerge> merges_from_scores(const TokenizerSpec& spec) {
  const TextIndex ids = ids_that_join(spec);
  std::vector<RankedMerge> merges;
  merges.reserve(spec.tokens.size() * 2);
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    // Of two tokens of one text only the first is known by it.
    const int32_t* known = ids.find(spec.tokens[id]);
    if (known == nullptr || *known != id) continue;
    for_each_cut(spec, ids, id, [&](const auto& merge) { merges.push_back({merge}); });
  }
  // Among the cuts of one token, by the ids of its parts: the order of Hugging Face's converter.
  std::sort(merges.begin(), merges.end(), [&](const RankedMerge& a, const RankedMerge& b) {
    const double score_a = spec.scores[a.merge.result], score_b = spec.scores[b.merge.result];
    if (score_a != score_b) return score_a > score_b;
    if (a.merge.result != b.merge.result) return a.merge.result < b.merge.result;
    return a.merge.left != b.merge.left ? a.merge.left < b.merge.left
                                        : a.merge.right < b.merge.right;
  });
  for (size_t i = 1; i < merges.size(); ++i) {
    const bool same = spec.scores[merges[i].merge.result] == spec.scores[merges[i - 1].merge.result];
    merges[i].rank = merges[i - 1].rank + (same ? 0 : 1);
  }
  return merges;
}

}  // namespace

std::vector<RankedMerge> ranked_merges(const TokenizerSpec& spec) {
  if (spec.merges_by_score) return merges_from_scores(spec);
  std::vector<RankedMerge> merges;
  merges.reserve(spec.merges.size());
  for (const TokenizerSpec::Merge& merge : spec.merges)
    merges.push_back({merge, static_cast<int32_t>(merges.size())});
  return merges;
}

std::vector<double> scores_of_merges(const TokenizerSpec& spec, const std::string& where) {
  // A token made by no merge is never looked up as a result; it gets the least score of all.
  std::vector<double> scores(spec.tokens.size(), -static_cast<double>(spec.merges.size()) - 1);
  std::unordered_set<uint64_t> listed;
  listed.reserve(spec.merges.size());
  double next = 0;
  for (const TokenizerSpec::Merge& merge : spec.merges) {
    listed.insert(uint64_t{static_cast<uint32_t>(merge.left)} << 32 |
                  static_cast<uint32_t>(merge.right));
    double& score = scores[merge.result];
    if (score < -static_cast<double>(spec.merges.size())) score = next--;
  }
  const TextIndex ids = ids_that_join(spec);
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    for_each_cut(spec, ids, id, [&](const TokenizerSpec::Merge& merge) {
      require(listed.contains(uint64_t{static_cast<uint32_t>(merge.left)} << 32 |
                              static_cast<uint32_t>(merge.right)),
              "{}: scores can't say that \"{}\" and \"{}\" are never joined to \"{}\"", where,
              spec.tokens[merge.left], spec.tokens[merge.right], spec.tokens[id]);
    });
  }
  return scores;
}

}  // namespace moiety::spec
