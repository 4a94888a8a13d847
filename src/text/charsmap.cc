#include "text/charsmap.h"

#include <cstring>

#include "base/error.h"

namespace moiety::text {
namespace {

// A unit of the double array (github.com/s-yata/darts-clone) packs where its children lie, the byte
// that leads to it, and whether a key ends there; the unit of an end holds the value.
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7fffffffu; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000ffu; }
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view bytes) {
  if (bytes.empty()) return;
  uint32_t array_bytes = 0;
  require(bytes.size() >= sizeof array_bytes, "a normalisation table of {} bytes", bytes.size());
  std::memcpy(&array_bytes, bytes.data(), sizeof array_bytes);
  bytes.remove_prefix(sizeof array_bytes);
  require(array_bytes % 4 == 0 && array_bytes > 0 && array_bytes <= bytes.size(),
          "a normalisation table of {} bytes with an array of {}", bytes.size() + 4, array_bytes);
  units_.resize(array_bytes / 4);
  std::memcpy(units_.data(), bytes.data(), array_bytes);
  texts_ = bytes.substr(array_bytes);
}

std::string_view Charsmap::text_at(uint32_t offset) const {
  if (offset >= texts_.size()) return {};
  const std::string_view rest = std::string_view(texts_).substr(offset);
  return rest.substr(0, rest.find('\0'));
}

// Calls found(length, value) for each key that `text` begins with, the shortest first, as long as
// it answers true.
template <class Found>
void Charsmap::walk(std::string_view text, Found found) const {
  if (units_.empty()) return;
  uint32_t at = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || label_of(units_[at]) != byte) return;
    const uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (at >= units_.size() || !found(i + 1, value_of(units_[at]))) return;
  }
}

std::optional<Charsmap::Match> Charsmap::longest(std::string_view text, size_t at) const {
  std::optional<Match> match;
  uint32_t offset = 0;
  walk(text.substr(at), [&](size_t length, uint32_t value) {
    match = Match{length};
    offset = value;
    return true;
  });
  if (match) match->text = text_at(offset);
  return match;
}

std::optional<Charsmap::Match> Charsmap::shortest(std::string_view text) const {
  std::optional<Match> match;
  walk(text, [&](size_t length, uint32_t value) {
    match = Match{length, text_at(value)};
    return false;
  });
  return match;
}

}  // namespace moiety::text
