#include "grammar/code_set.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

#include "base/random.h"
#include "text/utf8.h"

namespace moiety::grammar {
namespace {

CodeSet random_set(Random& random) {
  static constexpr char32_t kEdges[] = {0, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xd7ff, 0xd800, 0xdfff, 0xe000, 0xffff, 0x10000, 0x10ffff};
  std::vector<CodeRange> ranges;
  for (uint64_t i = random.below(4); i > 0; --i) {
    char32_t a = kEdges[random.below(std::size(kEdges))], b = static_cast<char32_t>(random.below(0x110000));
    if (random.below(2)) b = a + static_cast<char32_t>(random.below(100));
    ranges.push_back({std::min(a, b), std::max(a, b)});
  }
  return CodeSet(std::move(ranges));
}

bool matches(const std::vector<ByteRanges>& all, const std::string& bytes) {
  for (const ByteRanges& sequence : all) {
    bool fits = static_cast<size_t>(sequence.count) == bytes.size();
    for (size_t i = 0; fits && i < bytes.size(); ++i) {
      const auto byte = static_cast<uint8_t>(bytes[i]);
      fits = byte >= sequence.ranges[i].first && byte <= sequence.ranges[i].last;
    }
    if (fits) return true;
  }
  return false;
}

RC_GTEST_PROP(CodeSet, EncodesItsCharactersAndNoOthers, (uint64_t seed)) {
  Random random(seed);
  const CodeSet set = random_set(random);
  const std::vector<ByteRanges> bytes = utf8_ranges(set);
  for (int i = 0; i < 300; ++i) {
    char32_t code = static_cast<char32_t>(random.below(0x110000));
    if (!set.empty() && random.below(2)) {
      const CodeRange& near = set.ranges()[random.below(set.ranges().size())];
      code = (random.below(2) ? near.first : near.last) + static_cast<char32_t>(random.below(3)) - 1;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) continue;
    std::string encoded;
    text::append_utf8(encoded, code);
    RC_ASSERT(matches(bytes, encoded) == set.contains(code));
    RC_ASSERT(set.complement().contains(code) != set.contains(code));
  }
  RC_ASSERT(!matches(bytes, "\xed\xa0\x80"));  // a surrogate
}

RC_GTEST_PROP(CodeSet, IsASet, (uint64_t seed)) {
  Random random(seed);
  const CodeSet a = random_set(random), b = random_set(random);
  RC_ASSERT(a.complement().complement() == a);
  RC_ASSERT((a | b) == (b | a));
  RC_ASSERT((a & a.complement()).empty());
  RC_ASSERT((a | a.complement()) == CodeSet::all());
}

}  // namespace
}  // namespace moiety::grammar
