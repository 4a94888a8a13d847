#include "corpus/corpus.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string_view>

#include "base/error.h"
#include "base/progress.h"
#include "corpus/dedup.h"
#include "corpus/documents.h"
#include "corpus/manifest.h"
#include "corpus/normalise.h"
#include "corpus/overlap.h"

namespace moiety::corpus {
namespace {

struct Document {
  std::string text;  // normalised
  uint64_t key_hash = 0;
  std::optional<Split> pinned;
  size_t source = 0, file = 0;  // of its domain; files are numbered over all sources
  Split split = Split::Train;
};

struct Domain {
  std::vector<Document> documents;  // in the order of their files
  DomainReport report;
};

using Pins = std::map<std::string, Split>;

std::vector<fs::path> list_domains(const fs::path& raw) {
  std::error_code error;
  if (!fs::is_directory(raw, error)) {
    fail(ErrorKind::Io, "{}: no such folder; expected one with a folder of text for each domain",
         raw.string());
  }
  std::vector<fs::path> domains;
  for (const auto& entry : fs::directory_iterator(raw, error)) {
    if (entry.is_directory() && !entry.path().filename().string().starts_with('.'))
      domains.push_back(entry.path());
  }
  if (error) fail(ErrorKind::Io, "{}: cannot list the folder: {}", raw.string(), error.message());
  require(!domains.empty(), "{}: no folders in it; expected a folder of text for each domain",
          raw.string());
  std::sort(domains.begin(), domains.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return domains;
}

// The part of a file's path that says which source of the domain it is of.
std::string source_name(const fs::path& domain, const fs::path& file) {
  return file.lexically_relative(domain).begin()->string();
}

std::optional<Split> pinned_split(const Pins& pins, const fs::path& file) {
  const auto pin = pins.find(fs::path(file_key(file)).stem().string());
  if (pin == pins.end()) return std::nullopt;
  return pin->second;
}

// Appends the documents of one file.
void read_documents(const fs::path& file, const Pins& pins, size_t source, size_t number,
                    Domain& domain) {
  const MappedFile mapped(file);
  domain.report.raw_bytes += mapped.text().size();
  if (!is_text(mapped.text())) {
    ++domain.report.files_not_text;
    return;
  }
  const std::vector<std::string_view> texts = split_documents(mapped.text());
  const std::string key = file_key(file);
  for (const std::string_view text : texts) {
    Document document{.text = normalise(text),
                      .pinned = pinned_split(pins, file),
                      .source = source,
                      .file = number};
    if (document.text.empty()) continue;
    document.key_hash = hash_key(texts.size() == 1 ? key : document_key(key, document.text));
    domain.documents.push_back(std::move(document));
  }
}

Domain read_domain(const fs::path& folder, const std::vector<fs::path>& files, const Pins& pins,
                   const std::function<void(size_t)>& advance) {
  Domain domain{.report = {.name = folder.filename().string()}};
  std::vector<SourceReport>& sources = domain.report.sources;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string source = source_name(folder, files[i]);
    if (sources.empty() || sources.back().name != source) sources.push_back({.name = source});
    read_documents(files[i], pins, sources.size() - 1, i, domain);
    advance(domain.report.raw_bytes);
  }
  require(!domain.documents.empty(), "{}: no text in it ({} files, {} of them not text)",
          folder.string(), files.size(), domain.report.files_not_text);
  return domain;
}

template <class Keep>
size_t keep_documents(std::vector<Document>& documents, Keep&& keep) {
  return std::erase_if(documents, [&](const Document& document) { return !keep(document); });
}

// Takes documents by the hash of their key, not in the order of files, so that every source gives
// its share.
void cap_domain(Domain& domain, const CorpusOptions& options) {
  const auto own = options.cap_bytes_of.find(domain.report.name);
  const size_t cap = own == options.cap_bytes_of.end() ? options.cap_bytes : own->second;
  if (cap == 0) return;

  std::vector<Document>& documents = domain.documents;
  std::vector<size_t> order(documents.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // The place within a thousand decides the split; the rest of the hash decides here.
  const auto rank = [&](size_t i) { return documents[i].key_hash / 1000; };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rank(a) < rank(b); });
  size_t taken = 0;
  for (const size_t i : order) {
    if (taken + documents[i].text.size() <= cap) {
      taken += documents[i].text.size();
    } else {
      documents[i].text.clear();
    }
  }
  domain.report.documents_capped =
      keep_documents(documents, [](const Document& d) { return !d.text.empty(); });
  require(!documents.empty(), "domain {}: every document is larger than its cap of {} bytes",
          domain.report.name, cap);
}

void drop_short(Domain& domain, const CorpusOptions& options) {
  domain.report.documents_short += keep_documents(domain.documents, [&](const Document& document) {
    return document.text.size() >= options.shortest_bytes;
  });
}

void choose_splits(std::vector<Domain>& domains, const SplitRule& rule) {
  std::vector<SplitItem> items;
  for (uint32_t d = 0; d < domains.size(); ++d) {
    for (const Document& document : domains[d].documents) {
      items.push_back({d, document.key_hash, document.text.size(), document.pinned});
    }
  }
  const std::vector<Split> splits = assign_splits(items, rule);
  size_t i = 0;
  for (Domain& domain : domains) {
    for (Document& document : domain.documents) document.split = splits[i++];
  }
}

void drop_overlapping(std::vector<Domain>& domains, double most_overlap) {
  std::vector<std::string_view> texts;
  std::vector<Document*> held_out;
  for (Domain& domain : domains) {
    for (Document& document : domain.documents) {
      if (document.split == Split::Train) continue;
      texts.push_back(document.text);
      held_out.push_back(&document);
    }
  }
  OverlapCheck check(std::move(texts));
  for (const Domain& domain : domains) {
    for (const Document& document : domain.documents) {
      if (document.split == Split::Train) check.see_training_text(document.text);
    }
  }
  const std::vector<double> shares = check.shares();
  for (size_t i = 0; i < held_out.size(); ++i) {
    if (shares[i] > most_overlap) held_out[i]->text.clear();
  }
  for (Domain& domain : domains) {
    domain.report.documents_overlap = keep_documents(
        domain.documents, [](const Document& document) { return !document.text.empty(); });
    const bool trains =
        std::any_of(domain.documents.begin(), domain.documents.end(),
                    [](const Document& document) { return document.split == Split::Train; });
    require(trains, "domain {}: nothing left to train on, since all of its documents are held out",
            domain.report.name);
  }
}

SplitReport write_split(const Domain& domain, Split split, const fs::path& out) {
  SplitReport report{.file = fmt::format("{}.{}.txt", domain.report.name, split_name(split))};
  const std::unique_ptr<XXH64_state_t, decltype(&XXH64_freeState)> hash(XXH64_createState(),
                                                                        XXH64_freeState);
  XXH64_reset(hash.get(), 0);
  AtomicFile file(out / report.file);
  const auto write = [&](std::string_view text) {
    file.write(text);
    XXH64_update(hash.get(), text.data(), text.size());
  };
  constexpr char kSeparatorLine[] = {kSeparator, '\n'};
  for (const Document& document : domain.documents) {
    if (document.split != split) continue;
    if (report.documents++ > 0) write({kSeparatorLine, sizeof kSeparatorLine});
    write(document.text);
  }
  report.bytes = file.bytes_written();
  report.xxh64 = XXH64_digest(hash.get());
  file.commit();
  return report;
}

void count_sources(Domain& domain) {
  size_t last_file = SIZE_MAX;
  for (const Document& document : domain.documents) {
    SourceReport& source = domain.report.sources[document.source];
    ++source.documents;
    source.bytes += document.text.size();
    if (document.file != last_file) ++source.files;
    last_file = document.file;
  }
}

std::vector<Domain> read_domains(const fs::path& raw, const CorpusOptions& options) {
  const fs::path pins_file = raw / "splits.tsv";
  const Pins pins =
      fs::exists(pins_file) ? parse_splits(read_file(pins_file), pins_file.string()) : Pins{};

  const std::vector<fs::path> folders = list_domains(raw);
  std::vector<std::vector<fs::path>> files;
  size_t total = 0;
  for (const fs::path& folder : folders) {
    files.push_back(list_files(folder));
    for (const fs::path& file : files.back()) total += fs::file_size(file);
  }
  for (const auto& [name, bytes] : options.cap_bytes_of) {
    const bool known = std::any_of(folders.begin(), folders.end(),
                                   [&, name = name](const fs::path& f) { return f.filename() == name; });
    if (!known) fail(ErrorKind::Usage, "cap for {}: {} has no such domain", name, raw.string());
  }

  std::vector<Domain> domains;
  Progress progress("reading text", static_cast<double>(total), "B");
  size_t before = 0;
  for (size_t d = 0; d < folders.size(); ++d) {
    domains.push_back(read_domain(folders[d], files[d], pins, [&](size_t done) {
      progress.update(static_cast<double>(before + done), folders[d].filename().string());
    }));
    before += domains.back().report.raw_bytes;
    cap_domain(domains.back(), options);
  }
  return domains;
}

}  // namespace

CorpusReport build_corpus(const fs::path& raw, const fs::path& out, const CorpusOptions& options) {
  const fs::path way = fs::weakly_canonical(out).lexically_relative(fs::weakly_canonical(raw));
  if (way.empty() || *way.begin() != "..") {
    fail(ErrorKind::Usage, "{}: lies in {} and would be read as a domain of it", out.string(),
         raw.string());
  }
  std::vector<Domain> domains = read_domains(raw, options);

  // Repeats, over all domains: the first by path stays.
  ParagraphDedup dedup;
  for (Domain& domain : domains) {
    drop_short(domain, options);
    for (Document& document : domain.documents)
      domain.report.bytes_repeated += dedup.cut_repeats(document.text);
    drop_short(domain, options);
    require(!domain.documents.empty(),
            "domain {}: nothing left of it once {} short documents were dropped and {} bytes "
            "of repeated paragraphs were cut",
            domain.report.name, domain.report.documents_short, domain.report.bytes_repeated);
  }

  choose_splits(domains, options.split);
  drop_overlapping(domains, options.most_overlap);

  // A manifest speaks for the files beside it: the old one goes before they change, the new one
  // comes after.
  const fs::path manifest_file = out / "manifest.json";
  std::error_code error;
  fs::create_directories(out, error);
  if (error) fail(ErrorKind::Io, "{}: cannot create the folder: {}", out.string(), error.message());
  fs::remove(manifest_file, error);
  CorpusReport report{.options = options};
  for (Domain& domain : domains) {
    for (const Split split : kSplits) {
      domain.report.splits[static_cast<size_t>(split)] = write_split(domain, split, out);
    }
    count_sources(domain);
    report.domains.push_back(domain.report);
  }
  const fs::path packages_file = raw / "packages.tsv";
  if (fs::exists(packages_file))
    report.packages = parse_packages(read_file(packages_file), packages_file.string());
  write_file(manifest_file, manifest_text(report));
  return report;
}

}  // namespace moiety::corpus
