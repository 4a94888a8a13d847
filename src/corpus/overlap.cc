#include "corpus/overlap.h"

#include <utility>

namespace moiety::corpus {
namespace {

constexpr uint64_t kBase = 0x9e3779b97f4a7c15u;  // odd, so that no word's bits are lost

constexpr uint64_t power(uint64_t base, size_t exponent) {
  uint64_t result = 1;
  for (size_t i = 0; i < exponent; ++i) result *= base;
  return result;
}

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  return z ^ (z >> 27);
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// Calls visit(hash) for every 13 words in a row: a polynomial over the words' hashes, which rolls.
template <class Visit>
void for_each_sequence(std::string_view text, Visit&& visit) {
  constexpr uint64_t kOldest = power(kBase, kOverlapWords - 1);
  uint64_t words[kOverlapWords] = {};
  uint64_t sequence = 0;
  size_t count = 0;
  for (size_t at = 0; at < text.size();) {
    if (is_space(text[at])) {
      ++at;
      continue;
    }
    uint64_t word = 0;
    for (; at < text.size() && !is_space(text[at]); ++at) {
      word = (word ^ static_cast<uint8_t>(lower(text[at]))) * 0x100000001b3u;
    }
    uint64_t& oldest = words[count % kOverlapWords];
    sequence = (sequence - oldest * kOldest) * kBase + mix(word);
    oldest = mix(word);
    if (++count >= kOverlapWords) visit(mix(sequence));
  }
}

}  // namespace

OverlapCheck::OverlapCheck(std::vector<std::string_view> held_out)
    : held_out_(std::move(held_out)) {
  for (const std::string_view text : held_out_) {
    for_each_sequence(text, [&](uint64_t sequence) { sequences_.insert(sequence); });
  }
  seen_.resize(sequences_.slots());
}

void OverlapCheck::see_training_text(std::string_view text) {
  for_each_sequence(text, [&](uint64_t sequence) {
    if (const auto slot = sequences_.slot(sequence)) seen_[*slot] = 1;
  });
}

std::vector<double> OverlapCheck::shares() const {
  std::vector<double> shares;
  for (const std::string_view text : held_out_) {
    size_t all = 0, shared = 0;
    for_each_sequence(text, [&](uint64_t sequence) {
      ++all;
      shared += seen_[*sequences_.slot(sequence)];
    });
    shares.push_back(all == 0 ? 0.0 : static_cast<double>(shared) / static_cast<double>(all));
  }
  return shares;
}

}  // namespace moiety::corpus
