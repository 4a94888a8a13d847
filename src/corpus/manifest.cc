#include "corpus/manifest.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

namespace moiety::corpus {
namespace {

// Calls visit(fields) for every line that isn't empty; each must have `count` fields.
void for_each_row(std::string_view text, std::string_view name, size_t count,
                  const std::function<void(const std::vector<std::string>&)>& visit) {
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.empty()) continue;

    std::vector<std::string> fields(1);
    for (const char c : line) {
      if (c == '\t') {
        fields.emplace_back();
      } else {
        fields.back() += c;
      }
    }
    require(fields.size() == count, "{}: line {} has {} fields parted by tabs, expected {}", name,
            number, fields.size(), count);
    visit(fields);
  }
}

Json split_json(const SplitReport& split) {
  return {{"file", split.file},
          {"documents", split.documents},
          {"bytes", split.bytes},
          {"xxh64", fmt::format("{:016x}", split.xxh64)}};
}

Json domain_json(const DomainReport& domain) {
  Json sources = Json::array();
  for (const SourceReport& source : domain.sources) {
    sources.push_back({{"name", source.name},
                       {"files", source.files},
                       {"documents", source.documents},
                       {"bytes", source.bytes}});
  }
  Json json = {{"name", domain.name}, {"raw_bytes", domain.raw_bytes}, {"sources", sources}};
  for (const Split split : kSplits) {
    json[split_name(split)] = split_json(domain.splits[static_cast<size_t>(split)]);
  }
  json["left_out"] = {{"files_not_text", domain.files_not_text},
                      {"documents_over_cap", domain.documents_capped},
                      {"documents_short", domain.documents_short},
                      {"documents_overlapping_train", domain.documents_overlap},
                      {"bytes_repeated", domain.bytes_repeated}};
  return json;
}

}  // namespace

Json manifest(const CorpusReport& report) {
  const CorpusOptions& options = report.options;
  Json caps = Json::object();
  for (const auto& [domain, bytes] : options.cap_bytes_of) caps[domain] = bytes;

  Json json = {{"format", "moiety corpus 1"},
               {"separator", "\x1e"},
               {"options",
                {{"cap_bytes", options.cap_bytes},
                 {"cap_bytes_of", caps},
                 {"shortest_bytes", options.shortest_bytes},
                 {"most_overlap", options.most_overlap},
                 {"test_share", options.split.test_share},
                 {"valid_share", options.split.valid_share},
                 {"valid_bytes", options.split.valid_bytes}}}};
  json["packages"] = Json::array();
  for (const Package& package : report.packages) {
    json["packages"].push_back(
        {{"name", package.name}, {"version", package.version}, {"sha256", package.sha256}});
  }
  json["domains"] = Json::array();
  for (const DomainReport& domain : report.domains) json["domains"].push_back(domain_json(domain));
  return json;
}

std::string manifest_text(const CorpusReport& report) {
  return manifest(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<Package> parse_packages(std::string_view text, std::string_view name) {
  std::vector<Package> packages;
  for_each_row(text, name, 3, [&](const std::vector<std::string>& fields) {
    packages.push_back({fields[0], fields[1], fields[2]});
  });
  return packages;
}

std::map<std::string, Split> parse_splits(std::string_view text, std::string_view name) {
  std::map<std::string, Split> splits;
  for_each_row(text, name, 2, [&](const std::vector<std::string>& fields) {
    const auto split = std::find_if(std::begin(kSplits), std::end(kSplits),
                                    [&](Split s) { return fields[1] == split_name(s); });
    require(split != std::end(kSplits), "{}: {} is to be in {}, expected train, valid or test",
            name, fields[0], fields[1]);
    splits[fields[0]] = *split;
  });
  return splits;
}

}  // namespace moiety::corpus
