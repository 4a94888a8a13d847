// From folders of text to what is trained on: every folder of RAW is a domain; out come
// <domain>.train.txt, .valid.txt and .test.txt and a manifest. The same input gives the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "corpus/split.h"

namespace moiety::corpus {

struct CorpusOptions {
  size_t cap_bytes = 0;                        // a domain, 0 for all there is
  std::map<std::string, size_t> cap_bytes_of;  // for single domains, before cap_bytes
  size_t shortest_bytes = 200;                 // documents below are dropped
  double most_overlap = 0.5;                   // held-out documents above are dropped
  SplitRule split;
};

// A file or folder directly under a domain's folder.
struct SourceReport {
  std::string name;
  size_t files = 0, documents = 0, bytes = 0;  // as written, over all splits
};

struct SplitReport {
  std::string file;
  size_t documents = 0, bytes = 0;
  uint64_t xxh64 = 0;  // of the file
};

struct DomainReport {
  std::string name;
  std::vector<SourceReport> sources;
  std::array<SplitReport, 3> splits;  // by Split
  size_t raw_bytes = 0;
  size_t files_not_text = 0;     // passed over
  size_t documents_capped = 0;   // left out by the cap
  size_t documents_short = 0;    // dropped, before or after repeats were cut
  size_t documents_overlap = 0;  // held out, but too much like training text: dropped
  size_t bytes_repeated = 0;     // cut as paragraphs seen before
};

struct Package {
  std::string name, version, sha256;
};

struct CorpusReport {
  CorpusOptions options;
  std::vector<Package> packages;  // of RAW/packages.tsv, where there is one
  std::vector<DomainReport> domains;
};

// Reads RAW/splits.tsv where there is one: lines "name<tab>test" (valid, train) decide for the
// files of that name (without folder and extension) whatever their hash says. Progress goes to
// stderr.
CorpusReport build_corpus(const fs::path& raw, const fs::path& out, const CorpusOptions& options);

}  // namespace moiety::corpus
