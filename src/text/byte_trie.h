// A tree of byte strings: which of them does a text begin with?
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace moiety::text {

class ByteTrie {
 public:
  ByteTrie() = default;
  // Empty strings are left out; of equal ones the last counts. The strings may go afterwards.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings);

  // Calls visit(length, value) for each string that begins at `at`, the shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view text, size_t at, Visit visit) const {
    const size_t begin = at;
    if (at >= text.size()) return;
    int32_t node = roots_[static_cast<uint8_t>(text[at])];
    while (node >= 0) {
      ++at;
      if (nodes_[node].value >= 0) visit(at - begin, nodes_[node].value);
      if (at == text.size()) return;
      node = child_of(node, static_cast<uint8_t>(text[at]));
    }
  }

 private:
  // The children of a node lie side by side, ordered by byte.
  struct Node {
    int32_t value = -1;
    uint32_t first_child = 0;
    uint16_t children = 0;
    uint8_t byte = 0;
  };
  int32_t child_of(int32_t node, uint8_t byte) const {
    const uint32_t first = nodes_[node].first_child;
    uint32_t low = first, high = first + nodes_[node].children;
    while (low < high) {
      const uint32_t middle = (low + high) / 2;
      if (nodes_[middle].byte < byte) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const bool found = low < first + nodes_[node].children && nodes_[low].byte == byte;
    return found ? static_cast<int32_t>(low) : -1;
  }

  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_ = no_roots();
  static std::array<int32_t, 256> no_roots() {
    std::array<int32_t, 256> none;
    none.fill(-1);
    return none;
  }
};

}  // namespace moiety::text
