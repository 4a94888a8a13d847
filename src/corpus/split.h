// Which documents are trained on and which are held out. The choice goes by a hash of a document's
// key, so that it is the same in every run and does not move when documents are added, and so that
// the translations of a page stay together.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace moiety::corpus {

enum class Split { Train, Valid, Test };
inline constexpr Split kSplits[] = {Split::Train, Split::Valid, Split::Test};

const char* split_name(Split split);

// The name of the file without its folders and without a language: man/de/ls.1 and man/fr/ls.1,
// index.de.html and index.pt-BR.html, guide_es.txt and guide_fr.txt have the same key.
std::string file_key(const fs::path& path);

// Documents of one file are told apart by what they say: where they lie in it may change.
std::string document_key(std::string_view file_key, std::string_view text);

uint64_t hash_key(std::string_view key);

struct SplitRule {
  double test_share = 0.01, valid_share = 0.02;
  // A domain holds out at least so much for validation, or a tenth of itself if that is less.
  size_t valid_bytes = 100'000;
};

struct SplitItem {
  uint32_t domain = 0;
  uint64_t key_hash = 0;
  size_t bytes = 0;
  std::optional<Split> pinned;  // somebody has decided
};

// A document goes by place = hash of its key % 1000: below the test share, test; then up to the
// valid share, valid; the rest trains. In a domain that would hold out too little, the limit of
// valid rises place by place, and never so far that nothing is left to train on. A key that one
// domain holds out is held out of all.
std::vector<Split> assign_splits(std::span<const SplitItem> items, const SplitRule& rule);

}  // namespace moiety::corpus
