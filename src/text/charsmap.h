// sentencepiece's compiled normalisation table (precompiled_charsmap): a double array that maps
// strings to strings. The file's bytes may lie; nothing in them is believed unchecked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moiety::text {

class Charsmap {
 public:
  // The size of the array in four bytes, the array, the texts. Empty bytes map nothing. Throws
  // Error(Input).
  explicit Charsmap(std::string_view bytes);

  struct Match {
    size_t length = 0;      // of the text that is replaced
    std::string_view text;  // what replaces it
  };
  // Of what begins at `at`, the longest key.
  std::optional<Match> longest(std::string_view text, size_t at) const;
  // The shortest key.
  std::optional<Match> shortest(std::string_view text) const;

  bool empty() const { return units_.empty(); }

 private:
  template <class Found>
  void walk(std::string_view text, Found found) const;
  std::string_view text_at(uint32_t offset) const;

  std::vector<uint32_t> units_;
  std::string texts_;  // each ends with a zero byte
};

}  // namespace moiety::text
