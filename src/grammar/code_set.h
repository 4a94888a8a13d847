// Sets of Unicode characters, and the byte strings that UTF-8 makes of them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace moiety::grammar {

struct CodeRange {
  char32_t first, last;
  bool operator==(const CodeRange&) const = default;
};

// A value; its ranges are sorted and neither overlap nor touch. Surrogates are in none.
class CodeSet {
 public:
  CodeSet() = default;
  // The ranges may come in any order and overlap.
  explicit CodeSet(std::vector<CodeRange> ranges);
  CodeSet(char32_t first, char32_t last) : CodeSet(std::vector<CodeRange>{{first, last}}) {}

  static const CodeSet& all();

  CodeSet complement() const;
  CodeSet operator|(const CodeSet& other) const;
  CodeSet operator&(const CodeSet& other) const;
  bool contains(char32_t code) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<CodeRange>& ranges() const { return ranges_; }
  bool operator==(const CodeSet&) const = default;

 private:
  std::vector<CodeRange> ranges_;
};

// Byte strings of one length: any byte of the first range, then any of the second, and so on.
struct ByteRanges {
  struct Range {
    uint8_t first, last;
  };
  std::array<Range, 4> ranges;
  int count = 0;
};

// All UTF-8 encodings of the set's characters and no others (RFC 3629).
std::vector<ByteRanges> utf8_ranges(const CodeSet& set);

}  // namespace moiety::grammar
