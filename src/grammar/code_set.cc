#include "grammar/code_set.h"

#include <algorithm>

namespace moiety::grammar {
namespace {

constexpr char32_t kBeforeSurrogates = 0xd7ff, kAfterSurrogates = 0xe000, kLast = 0x10ffff;

int utf8_length(char32_t code) {
  if (code < 0x80) return 1;
  if (code < 0x800) return 2;
  return code < 0x10000 ? 3 : 4;
}

void encode(char32_t code, int length, uint8_t* bytes) {
  static constexpr uint8_t kLead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (int i = length - 1; i > 0; --i) {
    bytes[i] = static_cast<uint8_t>(0x80 | (code & 0x3f));
    code >>= 6;
  }
  bytes[0] = static_cast<uint8_t>(kLead[length] | code);
}

// Cuts [first, last] until each byte of the encodings has a range that does not depend on the others.
void add_ranges(char32_t first, char32_t last, std::vector<ByteRanges>& out) {
  for (const char32_t end : {char32_t{0x7f}, char32_t{0x7ff}, char32_t{0xffff}}) {
    if (first <= end && last > end) {
      add_ranges(first, end, out);
      add_ranges(end + 1, last, out);
      return;
    }
  }
  const int length = utf8_length(first);
  for (int i = 1; i < length; ++i) {
    const char32_t low_bits = (char32_t{1} << (6 * i)) - 1;
    if ((first & ~low_bits) == (last & ~low_bits)) continue;
    if ((first & low_bits) != 0) {
      add_ranges(first, first | low_bits, out);
      add_ranges((first | low_bits) + 1, last, out);
      return;
    }
    if ((last & low_bits) != low_bits) {
      add_ranges(first, (last & ~low_bits) - 1, out);
      add_ranges(last & ~low_bits, last, out);
      return;
    }
  }
  uint8_t low[4], high[4];
  encode(first, length, low);
  encode(last, length, high);
  ByteRanges sequence;
  sequence.count = length;
  for (int i = 0; i < length; ++i) sequence.ranges[i] = {low[i], high[i]};
  out.push_back(sequence);
}

}  // namespace

CodeSet::CodeSet(std::vector<CodeRange> ranges) {
  std::vector<CodeRange> valid;
  for (CodeRange range : ranges) {
    range.last = std::min(range.last, kLast);
    if (range.first > range.last) continue;
    const CodeRange below{range.first, std::min(range.last, kBeforeSurrogates)};
    const CodeRange above{std::max(range.first, kAfterSurrogates), range.last};
    if (below.first <= below.last) valid.push_back(below);
    if (above.first <= above.last) valid.push_back(above);
  }
  std::sort(valid.begin(), valid.end(), [](const CodeRange& a, const CodeRange& b) { return a.first < b.first; });
  for (const CodeRange& range : valid) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
}

const CodeSet& CodeSet::all() {
  static const CodeSet set(0, kLast);
  return set;
}

CodeSet CodeSet::complement() const {
  std::vector<CodeRange> gaps;
  char32_t next = 0;
  for (const CodeRange& range : ranges_) {
    if (range.first > next) gaps.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLast) gaps.push_back({next, kLast});
  return CodeSet(std::move(gaps));
}

CodeSet CodeSet::operator|(const CodeSet& other) const {
  std::vector<CodeRange> both = ranges_;
  both.insert(both.end(), other.ranges_.begin(), other.ranges_.end());
  return CodeSet(std::move(both));
}

CodeSet CodeSet::operator&(const CodeSet& other) const {
  return (complement() | other.complement()).complement();
}

bool CodeSet::contains(char32_t code) const {
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), code, [](char32_t c, const CodeRange& range) { return c < range.first; });
  return after != ranges_.begin() && code <= std::prev(after)->last;
}

std::vector<ByteRanges> utf8_ranges(const CodeSet& set) {
  std::vector<ByteRanges> out;
  for (const CodeRange& range : set.ranges()) add_ranges(range.first, range.last, out);
  return out;
}

}  // namespace moiety::grammar
