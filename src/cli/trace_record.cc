// moiety trace record: texts through a model, and which experts their tokens visit into a file.
#include <algorithm>

#include "base/json.h"
#include "base/progress.h"
#include "cli/arguments.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/trace.h"
#include "cli/trace_option.h"
#include "corpus/documents.h"
#include "engine/generate.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Run texts through a model and record which experts their tokens visit. A text's domain in the trace is the name of its file.\n"
    "Each document is read after the token that starts texts, in sequences that do not see each other. A trace that is there\n"
    "already is gone on with; a process that is killed loses no more than the sequence in flight.\n\n"
    "examples:\n"
    "  moiety trace record model.gguf text/*.valid.txt --out routes.trace --tokens 20000\n"
    "  moiety trace record model/ book.txt --out routes.trace --sequence 2048";

constexpr size_t kChunk = 512;  // tokens of a step

struct Text {
  std::string domain;
  std::vector<std::vector<int32_t>> sequences;
  size_t tokens = 0;
};

// At most so many tokens (0: all), cut into sequences.
Text read_text(const fs::path& path, const OpenModel& model, size_t most_tokens, size_t sequence) {
  Text text{corpus::domain_of(path), {}, 0};
  const size_t most = most_tokens > 0 ? most_tokens : SIZE_MAX;
  corpus::for_each_document(path, [&](std::string_view document) {
    if (text.tokens >= most) return;
    std::vector<int32_t> tokens = engine::document_tokens(model.need_tokenizer(), document, model.file.spec());
    tokens.resize(std::min(tokens.size(), most - text.tokens));
    for (size_t begin = 0; begin < tokens.size(); begin += sequence) {
      const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(begin);
      text.sequences.emplace_back(first, first + static_cast<std::ptrdiff_t>(std::min(sequence, tokens.size() - begin)));
    }
    text.tokens += tokens.size();
  });
  require(text.tokens > 0, "{}: no text in it", path.string());
  return text;
}

void record(OpenModel& model, std::span<const int32_t> tokens, trace::TraceRecorder& recorder) {
  const uint64_t sequence = recorder.new_sequence();
  model::KvCache cache(model.file.spec(), {tokens.size(), model.kv, tokens.size()});
  for (size_t at = 0; at < tokens.size(); at += kChunk) {
    const model::Chunk chunk{&cache, tokens.subspan(at, std::min(kChunk, tokens.size() - at))};
    recorder.begin({{sequence, at, static_cast<int>(chunk.tokens.size())}});
    model.transformer.forward({&chunk, 1}, recorder.observer());
    recorder.end();
  }
}

}  // namespace

int trace_record(int argc, char** argv) {
  ModelArguments arguments;
  std::vector<std::string> paths;
  std::string out;
  size_t most_tokens = 0, sequence = 512;
  bool json = false;
  CLI::App app(kHelp, "moiety trace record");
  arguments.add_to(app);
  arguments.add_memory_to(app);
  app.add_option("TEXT", paths, "text files or folders; documents in a file are separated by a line with U+001E alone")->required();
  app.add_option("--out", out, "the trace")->required();
  app.add_option("--tokens", most_tokens, "stop a text after so many tokens (0: all of it)")->capture_default_str();
  app.add_option("--sequence", sequence, "tokens that see each other")->capture_default_str()->check(CLI::Range(1, 1 << 20));
  app.add_flag("--json", json, "say what was recorded as JSON");
  if (const auto status = parse(app, argc, argv)) return *status;

  OpenModel model(arguments);
  trace::TraceWriter writer(out, trace::header_of(model.file.spec(), trace::model_name(arguments.model)));
  trace::TraceRecorder recorder(writer);
  sequence = std::min(sequence, static_cast<size_t>(std::max(1, model.file.spec().max_positions)));
  std::vector<Text> texts;
  size_t all = 0;
  for (const std::string& path : paths) all += texts.emplace_back(read_text(path, model, most_tokens, sequence)).tokens;
  fit_memory(model, arguments, {.sequences = {sequence}, .prompt = std::min(sequence, kChunk)});

  Progress progress("trace", static_cast<double>(all), "tokens");
  for (const Text& text : texts) {
    recorder.set_domain(text.domain);
    for (const auto& tokens : text.sequences) {
      record(model, tokens, recorder);
      progress.update(static_cast<double>(recorder.tokens()), text.domain);
    }
  }
  progress.finish();

  if (json) {
    Json domains = Json::object();
    for (const Text& text : texts) domains[text.domain] = domains.value(text.domain, size_t{0}) + text.tokens;
    const Json summary = {{"out", out}, {"steps", recorder.steps()}, {"tokens", recorder.tokens()}, {"bytes", writer.bytes()}, {"domains", domains}};
    fmt::print("{}\n", summary.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}: {} tokens of {} texts added, {} bytes now\n", out, recorder.tokens(), texts.size(), writer.bytes());
  }
  return 0;
}

}  // namespace moiety::cli
