// From texts to numbers: a hash table for vocabularies of hundreds of thousands of short texts, with one look into memory
// where std::unordered_map takes several.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace moiety {

class TextIndex {
 public:
  TextIndex() : slots_(16) {}
  // With room for `count` texts.
  explicit TextIndex(size_t count) : slots_(std::bit_ceil(count * 2 + 16)) {}

  // Null if the text isn't there.
  const int32_t* find(std::string_view text) const {
    const Slot& slot = slots_[place_of(text, hash_of(text))];
    return slot.text.data() == nullptr ? nullptr : &slot.value;
  }

  // The number that the text has now, and whether it is new. The text must outlive the index and have its characters
  // somewhere: no default-made string_view.
  std::pair<int32_t*, bool> insert(std::string_view text, int32_t value) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    const uint32_t hash = hash_of(text);
    Slot& slot = slots_[place_of(text, hash)];
    if (slot.text.data() != nullptr) return {&slot.value, false};
    slot = {text, hash, value};
    ++count_;
    return {&slot.value, true};
  }

  size_t size() const { return count_; }

 private:
  struct Slot {
    std::string_view text;
    uint32_t hash = 0;
    int32_t value = 0;
  };
  static uint32_t hash_of(std::string_view text) {
    const uint64_t hash = std::hash<std::string_view>()(text);
    return static_cast<uint32_t>(hash ^ (hash >> 32));
  }
  size_t place_of(std::string_view text, uint32_t hash) const {
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].text.data() != nullptr && (slots_[at].hash != hash || slots_[at].text != text))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.text.data() != nullptr) slots_[place_of(slot.text, slot.hash)] = slot;
    }
  }

  std::vector<Slot> slots_;
  size_t count_ = 0;
};

}  // namespace moiety
