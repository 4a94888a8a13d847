// moiety importance: which columns of a model's matrices matter on a text.
#include <algorithm>

#include "base/json.h"
#include "base/progress.h"
#include "base/say.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_model.h"
#include "corpus/documents.h"
#include "engine/generate.h"
#include "model/input_statistics.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Run text through a model and record, for each column of each weight matrix, how large what it is multiplied with was:\n"
    "moiety quantize --importance rounds the columns that matter with more care. llama.cpp's tools read the file too.\n\n"
    "examples:\n"
    "  moiety importance model/ --text book.txt --out importance.gguf\n"
    "  moiety importance model/ --text texts/ --tokens 100000 --out importance.gguf";

struct Text {
  std::vector<int32_t> tokens;
  std::vector<std::string> datasets;
};

// Documents one after the other, each after the token that starts texts, at most so many tokens (0: all).
Text read_text(const std::vector<std::string>& paths, const text::Tokenizer& tokenizer, const spec::ModelSpec& spec,
               size_t most_tokens) {
  Text text;
  for (const std::string& path : paths) {
    text.datasets.push_back(fs::path(path).filename().string());
    corpus::for_each_document(path, [&](std::string_view document) {
      if (most_tokens > 0 && text.tokens.size() >= most_tokens) return;
      const auto tokens = engine::document_tokens(tokenizer, document, spec);
      text.tokens.insert(text.tokens.end(), tokens.begin(), tokens.end());
    });
  }
  require(!text.tokens.empty(), "{}: no text in it", paths.front());
  if (most_tokens > 0) text.tokens.resize(std::min(text.tokens.size(), most_tokens));
  return text;
}

// Experts that no token came to, by tensor.
Json unvisited_json(const format::Importance& importance) {
  Json unvisited = Json::object();
  for (const auto& [name, sums] : importance.tensors) {
    if (const auto none = importance.unvisited(name); !none.empty()) unvisited[name] = none;
  }
  return unvisited;
}

}  // namespace

int importance(int argc, char** argv) {
  ModelArguments arguments;
  std::vector<std::string> paths;
  std::string out;
  size_t window = 512, most_tokens = 0;
  bool json = false;
  CLI::App app(kHelp, "moiety importance");
  arguments.add_to(app);
  app.add_option("--text", paths, "text files or folders, of the kind that the model will read and write")->required();
  app.add_option("--out", out, "the .gguf file to write")->required();
  app.add_option("--window", window, "tokens that the model sees at once")->capture_default_str()->check(CLI::Range(2, 1 << 20));
  app.add_option("--tokens", most_tokens, "stop after so many tokens (0: all of them)")->capture_default_str();
  app.add_flag("--json", json, "say what was found as JSON");
  if (const auto status = parse(app, argc, argv)) return *status;

  OpenModel open(arguments);
  const format::ModelFile& file = open.file;
  model::InputStatistics statistics(file);
  const kernel::Compute watched{open.compute.kernels, open.threads, kernel::Arithmetic::Exact, nullptr, statistics.observer()};
  model::Transformer transformer(file, watched);
  const Text text = read_text(paths, open.need_tokenizer(), file.spec(), most_tokens);
  window = std::min(window, static_cast<size_t>(std::max(2, file.spec().max_positions)));

  Progress progress("importance", static_cast<double>(text.tokens.size()), "tokens");
  size_t windows = 0;
  for (size_t begin = 0; begin < text.tokens.size(); begin += window, ++windows) {
    const auto tokens = std::span(text.tokens).subspan(begin, std::min(window, text.tokens.size() - begin));
    model::KvCache cache(file.spec(), tokens.size());
    const model::Chunk chunk{&cache, tokens, tokens.size()};
    transformer.forward({&chunk, 1});
    progress.update(static_cast<double>(begin + tokens.size()));
  }
  progress.finish();

  format::Importance importance = statistics.importance();
  importance.datasets = text.datasets;
  importance.chunks = static_cast<int64_t>(windows);
  importance.chunk_tokens = static_cast<int64_t>(window);
  format::write_importance(out, importance);
  const Json unvisited = unvisited_json(importance);
  if (json) {
    fmt::print("{}\n", Json{{"out", out}, {"tokens", text.tokens.size()}, {"matrices", importance.tensors.size()},
                            {"unvisited", unvisited}}.dump());
    return 0;
  }
  for (const auto& [name, experts] : unvisited.items()) {
    say("importance: {}: no token came to {} of its matrices, {}\n", name, experts.size(), experts.dump());
  }
  fmt::print("{}: {} tensors, {} tokens\n", out, importance.tensors.size(), text.tokens.size());
  return 0;
}

}  // namespace moiety::cli
