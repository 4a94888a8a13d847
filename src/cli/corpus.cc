// moiety corpus: from folders of text to files for training and validation.
#include "corpus/corpus.h"

#include <cmath>
#include <cstdio>

#include "cli/arguments.h"
#include "cli/command.h"
#include "corpus/manifest.h"
#include "corpus/synthetic.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Make text for training: every folder of RAW is a domain (a language, a kind of text). Text "
    "is\n"
    "normalised, repeated paragraphs are cut, documents are held out for validation and test.\n"
    "Writes OUT/<domain>.train.txt, .valid.txt, .test.txt and OUT/manifest.json. With --synthetic\n"
    "there is no RAW: the text of these tasks is generated, and `moiety eval --probes` asks\n"
    "questions that are in none of it.\n\n"
    "examples:\n"
    "  recipes/fetch-text --light text && moiety corpus text/raw text/corpus --cap 8\n"
    "  moiety corpus --synthetic arithmetic,recall text/corpus --synthetic-mb 4";

size_t megabytes(std::string_view text, std::string_view whole) {
  char* end = nullptr;
  const std::string number(text);
  const double value = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != 0 || !(value > 0) || value > 1e9) {
    fail(ErrorKind::Usage, "--cap {}: expected megabytes, as in --cap 10 or --cap de=10", whole);
  }
  return static_cast<size_t>(std::llround(value * 1e6));
}

void set_cap(const std::string& text, corpus::CorpusOptions& options) {
  const size_t equals = text.find('=');
  if (equals == text.npos) {
    options.cap_bytes = megabytes(text, text);
  } else {
    options.cap_bytes_of[text.substr(0, equals)] =
        megabytes(std::string_view(text).substr(equals + 1), text);
  }
}

double as_mb(size_t bytes) { return static_cast<double>(bytes) / 1e6; }

void print_report(const corpus::CorpusReport& report) {
  fmt::print("{:<14}|{:>9} {:>9} {:>9} {:>9} | left out: {:>11} {:>8} {:>6} {:>11} {:>14}\n",
             "domain", "documents", "train MB", "valid MB", "test MB", "repeated MB", "over cap",
             "short", "overlapping", "files not text");
  for (const corpus::DomainReport& domain : report.domains) {
    size_t documents = 0;
    for (const corpus::SplitReport& split : domain.splits) documents += split.documents;
    fmt::print(
        "{:<14}|{:>9} {:>9.2f} {:>9.2f} {:>9.2f} |           {:>11.2f} {:>8} {:>6} {:>11} {:>14}\n",
        domain.name, documents, as_mb(domain.splits[0].bytes), as_mb(domain.splits[1].bytes),
        as_mb(domain.splits[2].bytes), as_mb(domain.bytes_repeated), domain.documents_capped,
        domain.documents_short, domain.documents_overlap, domain.files_not_text);
  }
}

}  // namespace

int corpus(int argc, char** argv) {
  CLI::App app(kHelp, "moiety corpus");
  std::vector<std::string> caps;
  corpus::CorpusOptions options;
  std::vector<std::string> paths, kinds;
  double synthetic_mb = 2;
  corpus::SyntheticOptions synthetic;
  bool json = false;
  app.add_option("RAW OUT", paths, "a folder with a folder of text for each domain; where to write")
      ->required()
      ->expected(1, 2);
  app.add_option("--synthetic", kinds, "generate text of these tasks: arithmetic, copy, brackets, recall")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember(std::vector<std::string>(corpus::synthetic_kinds().begin(),
                                                     corpus::synthetic_kinds().end())));
  app.add_option("--synthetic-mb", synthetic_mb, "MB of training text a task")
      ->check(CLI::Range(0.001, 1e5))
      ->capture_default_str();
  app.add_option("--seed", synthetic.seed, "of the generated text")->capture_default_str();
  app.add_option("--cap", caps, "at most so many MB a domain; MB, or DOMAIN=MB; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--valid-share", options.split.valid_share,
                 "share of the documents held out for validation")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  app.add_option("--test-share", options.split.test_share,
                 "share of the documents held out for tests")
      ->check(CLI::Range(0.0, 0.4))
      ->capture_default_str();
  app.add_flag("--json", json, "print the manifest");
  if (const auto status = parse(app, argc, argv)) return *status;
  if (!kinds.empty()) {
    if (paths.size() != 1) fail(ErrorKind::Usage, "--synthetic: expected OUT alone");
    synthetic.bytes = static_cast<size_t>(synthetic_mb * 1e6);
    corpus::write_synthetic(paths[0], kinds, synthetic);
    return 0;
  }
  if (paths.size() != 2) fail(ErrorKind::Usage, "moiety corpus: expected RAW and OUT");
  for (const std::string& cap : caps) set_cap(cap, options);

  const corpus::CorpusReport report = corpus::build_corpus(paths[0], paths[1], options);
  if (json) {
    fmt::print("{}", corpus::manifest_text(report));
  } else {
    print_report(report);
  }
  return 0;
}

}  // namespace moiety::cli
