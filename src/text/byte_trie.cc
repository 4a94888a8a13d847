#include "text/byte_trie.h"

namespace moiety::text {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings) {
  std::stable_sort(strings.begin(), strings.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  // Breadth first: each group of strings that share `depth` bytes becomes one node.
  struct Group {
    size_t begin, end, depth;
    int32_t node;  // whose children they make; -1: roots
  };
  std::vector<Group> groups = {{0, strings.size(), 0, -1}};
  for (size_t next = 0; next < groups.size(); ++next) {
    const Group group = groups[next];
    size_t at = group.begin;
    while (at < group.end && strings[at].first.size() == group.depth) {
      if (group.node >= 0) nodes_[group.node].value = strings[at].second;
      ++at;
    }
    if (group.node >= 0) nodes_[group.node].first_child = static_cast<uint32_t>(nodes_.size());
    while (at < group.end) {
      const auto byte = static_cast<uint8_t>(strings[at].first[group.depth]);
      size_t end = at;
      while (end < group.end && static_cast<uint8_t>(strings[end].first[group.depth]) == byte)
        ++end;
      const auto node = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.byte = byte});
      if (group.node >= 0) {
        ++nodes_[group.node].children;
      } else {
        roots_[byte] = node;
      }
      groups.push_back({at, end, group.depth + 1, node});
      at = end;
    }
  }
}

}  // namespace moiety::text
