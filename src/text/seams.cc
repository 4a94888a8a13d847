#include "text/seams.h"

#include <algorithm>

#include "text/utf8.h"

namespace moiety::text {
namespace {

int32_t first_character(std::string_view token, const CharacterTable& characters) {
  return characters[utf8_char(token, 0).code];
}

int32_t last_character(std::string_view token, const CharacterTable& characters) {
  size_t begin = token.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(token[begin]) & 0xc0) == 0x80) --begin;
  return characters[utf8_char(token, begin).code];
}

// A token that stands for a byte or for anything unknown doesn't say by its text what it touches.
bool says_what_it_touches(const spec::TokenizerSpec& spec,
                          std::span<const spec::RankedMerge> merges) {
  const auto speaks = [&](int32_t id) {
    return id != spec.unknown && !(spec.byte_fallback && spec::byte_of_token(spec.tokens[id]) >= 0);
  };
  return spec.word_prefix.empty() && spec.word_suffix.empty() &&
         std::all_of(merges.begin(), merges.end(), [&](const spec::RankedMerge& m) {
           return speaks(m.merge.left) && speaks(m.merge.right);
         });
}

std::vector<spec::RankedMerge> joined_characters(const spec::TokenizerSpec& spec,
                                                 std::span<const spec::RankedMerge> merges,
                                                 const CharacterTable& characters) {
  std::vector<std::pair<int32_t, int32_t>> pairs;
  pairs.reserve(merges.size());
  for (const spec::RankedMerge& m : merges) {
    pairs.emplace_back(last_character(spec.tokens[m.merge.left], characters),
                       first_character(spec.tokens[m.merge.right], characters));
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  std::vector<spec::RankedMerge> joined;
  joined.reserve(pairs.size());
  for (const auto& [left, right] : pairs) joined.push_back({{left, right, 0}, 0});
  return joined;
}

}  // namespace

Seams::Seams(const spec::TokenizerSpec& spec, std::span<const spec::RankedMerge> merges,
             const CharacterTable& characters)
    : usable_(says_what_it_touches(spec, merges)),
      pairs_(joined_characters(spec, merges, characters)) {}

}  // namespace moiety::text
