// The first step of reading tokenizer.json: the long lists (vocabulary, merges) as plain vectors,
// the rest as Json. Real files have hundreds of thousands of entries, for which a tree of Json
// values would take seconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace moiety::format {

struct TokenizerJson {
  Json rest;  // everything but model.vocab and model.merges
  std::vector<std::pair<std::string, int32_t>> vocab;  // tokens and their ids
  std::vector<std::pair<std::string, double>> scored;  // Unigram's: tokens and scores, by id
  bool has_merges = false;
  std::vector<std::pair<std::string, std::string>> merges;
};

// Throws Error(Input). Model.merges that is no list stays in `rest`.
TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& where);

}  // namespace moiety::format
