// A set of 64-bit hashes by open addressing: 16 bytes or so an entry, where std::unordered_set
// needs 50.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace moiety::corpus {

class HashSet {
 public:
  // True if it was not there yet.
  bool insert(uint64_t hash) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    uint64_t& slot = slots_[find(key(hash))];
    if (slot == key(hash)) return false;
    slot = key(hash);
    ++size_;
    return true;
  }

  // Where `hash` lies among slots(), if it is there; good until the next insert.
  std::optional<size_t> slot(uint64_t hash) const {
    if (slots_.empty()) return std::nullopt;
    const size_t at = find(key(hash));
    if (slots_[at] == 0) return std::nullopt;
    return at;
  }

  size_t size() const { return size_; }
  size_t slots() const { return slots_.size(); }

 private:
  static uint64_t key(uint64_t hash) { return hash == 0 ? 1 : hash; }  // 0 marks an empty slot

  size_t find(uint64_t wanted) const {
    const size_t mask = slots_.size() - 1;
    size_t at = (wanted ^ (wanted >> 32)) & mask;
    while (slots_[at] != 0 && slots_[at] != wanted) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    std::vector<uint64_t> old(slots_.empty() ? 1024 : 2 * slots_.size(), 0);
    old.swap(slots_);
    for (const uint64_t hash : old) {
      if (hash != 0) slots_[find(hash)] = hash;
    }
  }

  std::vector<uint64_t> slots_;  // a power of two of them
  size_t size_ = 0;
};

}  // namespace moiety::corpus
