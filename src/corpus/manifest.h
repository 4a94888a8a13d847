// What a corpus is made of, as JSON: packages, sources, counts, and a hash of every file, so that
// it can be told apart from any other.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "corpus/corpus.h"

namespace moiety::corpus {

Json manifest(const CorpusReport& report);

// The same as it is written: indented, names that are no UTF-8 made so.
std::string manifest_text(const CorpusReport& report);

// Rows "name<tab>version<tab>sha256"; `name` is the file's name, for the error sentence.
std::vector<Package> parse_packages(std::string_view text, std::string_view name);

// Rows "key<tab>split".
std::map<std::string, Split> parse_splits(std::string_view text, std::string_view name);

}  // namespace moiety::corpus
