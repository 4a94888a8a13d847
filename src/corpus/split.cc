#include "corpus/split.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

namespace moiety::corpus {
namespace {

constexpr uint32_t kPlaces = 1000;

// Languages that pages are commonly translated to. A file that happens to be called so only shares
// its split with another.
constexpr std::string_view kLanguages[] = {
    "ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr",
    "gl", "he", "hi", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "nb", "nl", "nn",
    "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "th", "tr", "uk", "vi", "zh"};

bool is_language(std::string_view word) {
  const auto language = word.substr(0, 2);
  if (std::find(std::begin(kLanguages), std::end(kLanguages), language) == std::end(kLanguages))
    return false;
  if (word.size() == 2) return true;  // de
  return word.size() == 5 && (word[2] == '_' || word[2] == '-') && std::isupper(word[3]) &&
         std::isupper(word[4]);
}

uint32_t place_of(const SplitItem& item) { return static_cast<uint32_t>(item.key_hash % kPlaces); }

uint32_t places(double share) { return static_cast<uint32_t>(std::lround(share * kPlaces)); }

// What a domain weighs at each place.
struct Weights {
  std::array<size_t, kPlaces> at_place{};
  size_t total = 0, pinned_valid = 0, pinned_train = 0;
};

Weights& operator+=(Weights& weights, const SplitItem& item) {
  weights.total += item.bytes;
  if (!item.pinned) weights.at_place[place_of(item)] += item.bytes;
  if (item.pinned == Split::Valid) weights.pinned_valid += item.bytes;
  if (item.pinned == Split::Train) weights.pinned_train += item.bytes;
  return weights;
}

// Places below `test` are for tests, then those below `valid` for validation.
struct Limits {
  uint32_t test = 0, valid = 0;
};

Limits limits_of(const Weights& weights, const SplitRule& rule) {
  Limits limits{.test = places(rule.test_share)};
  limits.valid = limits.test + places(rule.valid_share);
  size_t valid = weights.pinned_valid, train = weights.pinned_train;
  for (uint32_t place = limits.test; place < kPlaces; ++place) {
    (place < limits.valid ? valid : train) += weights.at_place[place];
  }
  if (train == 0) return {};  // a document or two: nothing is held out
  if (rule.valid_share == 0) return limits;

  const size_t wanted = std::min(rule.valid_bytes, weights.total / 10);
  while (limits.valid < kPlaces && valid < wanted && train > weights.at_place[limits.valid]) {
    valid += weights.at_place[limits.valid];
    train -= weights.at_place[limits.valid];
    ++limits.valid;
  }
  return limits;
}

}  // namespace

const char* split_name(Split split) {
  switch (split) {
    case Split::Train:
      return "train";
    case Split::Valid:
      return "valid";
    case Split::Test:
      return "test";
  }
  return "";
}

std::string file_key(const fs::path& path) {
  const std::string stem = path.stem().string();
  for (const size_t language_bytes : {2, 5}) {
    if (stem.size() < language_bytes + 2) continue;
    const size_t mark = stem.size() - language_bytes - 1;
    if ((stem[mark] == '.' || stem[mark] == '_' || stem[mark] == '-') &&
        is_language(std::string_view(stem).substr(mark + 1))) {
      return stem.substr(0, mark) + path.extension().string();
    }
  }
  return stem + path.extension().string();
}

std::string document_key(std::string_view file_key, std::string_view text) {
  return fmt::format("{}#{:016x}", file_key, XXH64(text.data(), text.size(), 0));
}

uint64_t hash_key(std::string_view key) { return XXH64(key.data(), key.size(), 0); }

std::vector<Split> assign_splits(std::span<const SplitItem> items, const SplitRule& rule) {
  std::vector<Weights> domains;
  for (const SplitItem& item : items) {
    if (item.domain >= domains.size()) domains.resize(item.domain + 1);
    domains[item.domain] += item;
  }
  std::vector<Limits> limits;
  for (const Weights& domain : domains) limits.push_back(limits_of(domain, rule));

  std::unordered_map<uint64_t, Limits> limits_of_key;
  for (const SplitItem& item : items) {
    Limits& widest = limits_of_key[item.key_hash];
    widest.test = std::max(widest.test, limits[item.domain].test);
    widest.valid = std::max(widest.valid, limits[item.domain].valid);
  }

  std::vector<Split> splits;
  splits.reserve(items.size());
  for (const SplitItem& item : items) {
    const uint32_t place = place_of(item);
    const Limits& limit = limits_of_key.at(item.key_hash);
    const Split by_place = place < limit.test    ? Split::Test
                           : place < limit.valid ? Split::Valid
                                                 : Split::Train;
    splits.push_back(item.pinned.value_or(by_place));
  }
  return splits;
}

}  // namespace moiety::corpus
