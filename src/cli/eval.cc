// moiety eval: how well a model predicts texts, and which experts each of them uses.
#include <lzma.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/json.h"
#include "base/progress.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/expert_chart.h"
#include "cli/expert_report.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/trace_option.h"
#include "cli/probe_report.h"
#include "corpus/documents.h"
#include "corpus/synthetic.h"
#include "engine/evaluate.h"
#include "engine/next_byte.h"
#include "engine/reference.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Bits per byte and perplexity of a model on texts, and the experts that each text used; how far its predictions are\n"
    "from those of another model, the way to judge a quantised one; whether it can do small tasks (--probes).\n\n"
    "examples:\n"
    "  moiety eval model.gguf --text book.txt\n"
    "  moiety eval quick/run --text quick/text/*.valid.txt --xz --chart experts.svg\n"
    "  moiety eval quick/run --probes arithmetic,copy,brackets,recall\n"
    "  moiety eval model-Q4_K_M.gguf --text book.txt --kl model/\n"
    "  moiety eval model/ --text book.txt --tokens 20000 --exact --save-logits book.logits";

struct Result {
  std::string name;
  engine::Evaluation evaluation;
  double xz_bits_per_byte = 0;  // 0: not asked for
  engine::Divergence divergence;  // from the reference, if there is one
  engine::ByteAccuracy bytes;     // of the next byte, if asked for
};

// The model whose predictions are taken for the right ones, or what was saved of them. A model computes exactly.
struct OpenReference {
  OpenReference(const fs::path& path, const OpenModel& judged, size_t window)
      : compute{judged.compute.kernels, judged.compute.threads, kernel::Arithmetic::Exact} {
    if (fs::is_regular_file(path) && engine::SavedLogits::is_such(path)) {
      engine::SavedLogits saved(path);
      require_vocabulary(path, saved.vocab_size(), judged);
      require(saved.window() == window, "{}: saved with --window {}, not {}", path.string(), saved.window(), window);
      predictions = engine::saved_reference(std::move(saved));
      return;
    }
    file.emplace(path);
    require_vocabulary(path, file->spec().vocab_size, judged);
    transformer.emplace(*file, compute);
    predictions = engine::model_reference(*transformer, kernel::KvType::F32);
  }
  static void require_vocabulary(const fs::path& path, int vocabulary, const OpenModel& judged) {
    require(vocabulary == judged.file.spec().vocab_size, "{}: a vocabulary of {}, that of {} has {}", path.string(), vocabulary,
            judged.file.path().string(), judged.file.spec().vocab_size);
  }

  kernel::Compute compute;
  std::optional<format::ModelFile> file;
  std::optional<model::Transformer> transformer;
  engine::Reference predictions;
};

// What is done with every window of a text.
struct Watchers {
  const OpenReference* reference = nullptr;
  engine::LogitsWriter* writer = nullptr;
  const engine::ByteVocabulary* bytes = nullptr;
};

// Of all of a window's predictions.
engine::ByteAccuracy next_bytes(const engine::Window& window, const engine::ByteVocabulary& vocabulary, ThreadPool& threads) {
  std::vector<engine::ByteAccuracy> of_token(window.tokens.size() - window.first_scored);
  threads.parallel_for(of_token.size(), [&](size_t i) {
    const size_t t = window.first_scored + i;
    of_token[i] = vocabulary.score(window.logits_TV.row(t - 1), window.tokens[t]);
  });
  engine::ByteAccuracy all;
  for (const engine::ByteAccuracy& one : of_token) all.add(one);
  return all;
}

// What `xz -9` makes of the same bytes: a baseline that everybody can check.
double xz_bits_per_byte(std::string_view text) {
  if (text.empty()) return 0;
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  size_t written = 0;
  const lzma_ret status = lzma_easy_buffer_encode(9, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const uint8_t*>(text.data()),
                                                  text.size(), reinterpret_cast<uint8_t*>(out.data()), &written, out.size());
  require(status == LZMA_OK, "xz could not compress the text (status {})", static_cast<int>(status));
  return 8.0 * static_cast<double>(written) / static_cast<double>(text.size());
}

std::vector<std::string_view> token_bytes(const text::Tokenizer& tokenizer) {
  std::vector<std::string_view> bytes_V;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) bytes_V.push_back(tokenizer.token_bytes(id));
  return bytes_V;
}

Result evaluate_text(OpenModel& model, const fs::path& path, const engine::EvaluateOptions& options, bool with_xz,
                     const Watchers& watchers) {
  std::vector<std::string> kept;
  const size_t bytes = corpus::for_each_document(path, [&](std::string_view document) { kept.emplace_back(document); }).bytes;
  require(bytes > 0, "{}: no text in it", path.string());
  const std::vector<std::string_view> documents(kept.begin(), kept.end());

  Result result{corpus::domain_of(path)};
  if (options.trace != nullptr) options.trace->set_domain(result.name);
  engine::WindowObserver watch;
  if (watchers.reference != nullptr || watchers.writer != nullptr || watchers.bytes != nullptr) {
    watch = [&](const engine::Window& window) {
      if (watchers.bytes != nullptr) result.bytes.add(next_bytes(window, *watchers.bytes, model.threads));
      if (watchers.reference != nullptr) {
        result.divergence.add(engine::compare(window, watchers.reference->predictions, model.threads));
      }
      if (watchers.writer == nullptr) return;
      const Matrix<float> log_p = engine::log_probabilities(window, model.threads);
      for (size_t i = 0; i < log_p.rows(); ++i) watchers.writer->add(log_p.row(i), window.tokens[window.first_scored + i]);
    };
  }
  Progress progress("eval " + result.name, static_cast<double>(bytes), "B");
  result.evaluation = engine::evaluate(model.transformer, model.need_tokenizer(), documents, options,
                                       [&](size_t done) { progress.update(static_cast<double>(done)); }, watch);
  progress.finish();
  if (with_xz) {
    std::string text;
    for (const std::string_view document : documents) text.append(document);
    result.xz_bits_per_byte = xz_bits_per_byte(text);
  }
  return result;
}

// The busiest expert of each layer, as "3:28%".
std::string busiest(const moe::Load& load, int layer) {
  const auto visits_E = load.of_layer(layer);
  const auto most = std::max_element(visits_E.begin(), visits_E.end());
  const auto all = std::max<int64_t>(1, std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));
  return fmt::format("{}:{}%", most - visits_E.begin(), std::lround(100.0 * static_cast<double>(*most) / static_cast<double>(all)));
}

void print_divergence(const std::string& name, const engine::Divergence& d) {
  fmt::print("{:<16}{:>9.5f} ± {:<8.5f}{:>9.5f}{:>9.5f}{:>9.5f}{:>9.5f}{:>9.3f}{:>10.2f} %{:>12.3f}{:>13.3f}{:>+9.2f} %\n", name,
             d.mean(), d.standard_error(), d.quantile(0.5), d.quantile(0.9), d.quantile(0.99), d.quantile(0.999), d.quantile(1),
             100 * d.top_agreement(), d.perplexity(), d.reference_perplexity(),
             100 * (d.perplexity() / d.reference_perplexity() - 1));
}

// How far from the reference, in nats a token.
void print_divergences(const std::vector<Result>& results) {
  fmt::print("\nKL divergence from the reference (nats a token), share of tokens with the same likeliest one, perplexities\n"
             "{:<16}{:>20}{:>9}{:>9}{:>9}{:>9}{:>9}{:>12}{:>12}{:>13}{:>11}\n",
             "text", "mean", "median", "90 %", "99 %", "99.9 %", "largest", "same top", "perplexity", "reference's", "change");
  engine::Divergence all;
  for (const Result& r : results) {
    print_divergence(r.name, r.divergence);
    all.add(r.divergence);
  }
  if (results.size() > 1) print_divergence("all", all);
}

Json divergence_json(const engine::Divergence& d) {
  return {{"tokens", d.kl.size()},
          {"mean", d.mean()},
          {"standard_error", d.standard_error()},
          {"median", d.quantile(0.5)},
          {"p90", d.quantile(0.9)},
          {"p99", d.quantile(0.99)},
          {"p99.9", d.quantile(0.999)},
          {"largest", d.quantile(1)},
          {"same_top", d.top_agreement()},
          {"perplexity", d.perplexity()},
          {"reference_perplexity", d.reference_perplexity()}};
}

void print_next_bytes(const std::vector<Result>& results) {
  fmt::print("\nnext byte predicted     every byte   first of a token\n");
  for (const Result& r : results) {
    fmt::print("{:<16}{:>16.2f} %{:>17.2f} %\n", r.name, 100 * r.bytes.all.share(), 100 * r.bytes.first.share());
  }
}

void print_tables(const std::vector<Result>& results, bool with_xz) {
  fmt::print("{:<16}{:>12}{:>12}{:>14}{:>12}{}\n", "text", "bytes", "tokens", "bits/byte", "perplexity",
             with_xz ? "    xz -9 bits/byte" : "");
  for (const Result& r : results) {
    const engine::Evaluation& e = r.evaluation;
    fmt::print("{:<16}{:>12}{:>12}{:>14.3f}{:>12.2f}{}\n", r.name, e.bytes, e.tokens, e.bits_per_byte(), e.perplexity(),
               with_xz ? fmt::format("{:>19.3f}", r.xz_bits_per_byte) : "");
  }
  const int layers = results[0].evaluation.load.layers();
  if (layers == 0) return;
  fmt::print("\nbusiest expert by layer (expert:share of the text's visits; even would be {:.0f}%)\n{:<16}",
             100.0 / results[0].evaluation.load.experts(), "");
  const int shown = std::min(layers, 12);
  for (int layer = 0; layer < shown; ++layer) fmt::print("{:>9}", fmt::format("layer {}", layer));
  fmt::print("\n");
  for (const Result& r : results) {
    fmt::print("{:<16}", r.name);
    for (int layer = 0; layer < shown; ++layer) fmt::print("{:>9}", busiest(r.evaluation.load, layer));
    fmt::print("\n");
  }
}

void print_json(const std::vector<Result>& results, bool with_xz, const std::vector<ProbeResult>& probes) {
  Json texts = Json::array();
  for (const Result& r : results) {
    Json visits = Json::array();
    for (int layer = 0; layer < r.evaluation.load.layers(); ++layer) {
      const auto of_layer = r.evaluation.load.of_layer(layer);
      visits.push_back(std::vector(of_layer.begin(), of_layer.end()));
    }
    texts.push_back({{"text", r.name},
                     {"bytes", r.evaluation.bytes},
                     {"tokens", r.evaluation.tokens},
                     {"bits_per_byte", r.evaluation.bits_per_byte()},
                     {"perplexity", r.evaluation.perplexity()},
                     {"expert_visits", visits}});
    if (with_xz) texts.back()["xz_bits_per_byte"] = r.xz_bits_per_byte;
    if (r.bytes.all.all > 0) {
      texts.back()["next_byte_accuracy"] = r.bytes.all.share();
      texts.back()["next_byte_accuracy_of_first_bytes"] = r.bytes.first.share();
    }
    if (!r.divergence.kl.empty()) texts.back()["kl"] = divergence_json(r.divergence);
  }
  Json json = {{"texts", texts}};
  if (!probes.empty()) json["probes"] = probes_json(probes);
  fmt::print("{}\n", json.dump());
}

}  // namespace

int eval(int argc, char** argv) {
  ModelArguments arguments;
  std::vector<std::string> texts;
  std::string chart, reference_path, logits_path;
  engine::EvaluateOptions options;
  TraceOption trace;
  ProbeOptions probe_options;
  bool xz = false, json = false, next_byte = false;
  CLI::App app(kHelp, "moiety eval");
  arguments.add_to(app);
  arguments.add_memory_to(app);
  app.add_option("--text", texts, "text files or folders; documents in a file are separated by a line with U+001E alone");
  app.add_option("--window", options.window, "tokens that the model sees at once")->capture_default_str();
  app.add_option("--chunk", options.chunk, "of these computed at once; the result is the same, but with lossy helpers (0: all)")
      ->capture_default_str();
  app.add_option("--tokens", options.most_tokens, "stop a text after so many tokens (0: all of it)")->capture_default_str();
  app.add_flag("--next-byte", next_byte, "also of how many bytes of the text the likeliest next byte is the true one");
  app.add_option("--probes", probe_options.kinds, "questions of these kinds, each with four answers: arithmetic, copy, brackets, recall")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember(std::vector<std::string>(corpus::synthetic_kinds().begin(), corpus::synthetic_kinds().end())));
  app.add_option("--questions", probe_options.questions, "of each probe")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--shots", probe_options.shots, "questions with their answers that stand before each")->check(CLI::Range(0, 1000))->capture_default_str();
  app.add_option("--seed", probe_options.seed, "of the probes' questions")->capture_default_str();
  app.add_flag("--xz", xz, "also what xz -9 makes of the same text");
  app.add_option("--chart", chart, "draw which experts each text used, as SVG");
  app.add_option("--kl", reference_path,
                 "compare the predictions with those of this model (computed with --exact) or of a file that --save-logits wrote");
  app.add_option("--save-logits", logits_path, "write the predictions to a file for --kl: 2 bytes a word of the vocabulary and token");
  trace.add_to(app, "the texts' tokens");
  app.add_flag("--json", json, "one JSON object, with visits by layer and expert");
  if (const auto status = parse(app, argc, argv)) return *status;
  if (texts.empty() && probe_options.kinds.empty()) fail(ErrorKind::Usage, "moiety eval: name a --text, or --probes");

  OpenModel model(arguments);
  options.kv = model.kv;
  options.trace = trace.open(model.file.spec(), trace::model_name(arguments.model));
  fit_memory(model, arguments, {.sequences = {options.window}, .prompt = options.chunk > 0 ? std::min(options.chunk, options.window) : options.window, .logits = options.window});
  require(chart.empty() || model.file.spec().moe_layers() > 0, "--chart: {} is a dense model and has no experts to draw",
          arguments.model);
  std::optional<OpenReference> reference;
  if (!reference_path.empty()) reference.emplace(reference_path, model, options.window);
  std::optional<engine::LogitsWriter> writer;
  if (!logits_path.empty()) writer.emplace(logits_path, model.file.spec().vocab_size, options.window);
  std::optional<engine::ByteVocabulary> bytes;
  if (next_byte) bytes.emplace(token_bytes(model.need_tokenizer()));
  const Watchers watchers{reference ? &*reference : nullptr, writer ? &*writer : nullptr, bytes ? &*bytes : nullptr};
  std::vector<Result> results;
  for (const std::string& text : texts) results.push_back(evaluate_text(model, text, options, xz, watchers));
  if (writer) writer->commit();
  const std::vector<ProbeResult> probes = run_probes(model, probe_options);

  if (!chart.empty()) {
    std::vector<DomainLoad> loads;
    for (const Result& r : results) loads.push_back({r.name, r.evaluation.load});
    write_file(chart, draw_expert_chart("Which experts each text used: " + arguments.model, loads));
  }
  if (json) {
    print_json(results, xz, probes);
  } else {
    if (!results.empty()) print_tables(results, xz);
    if (next_byte && !results.empty()) print_next_bytes(results);
    if (!probes.empty()) print_probes(probes, probe_options);
    if (reference) print_divergences(results);
    if (const std::string experts = expert_statistics_text(model); !experts.empty()) fmt::print("\n{}\n", experts);
    if (!chart.empty()) fmt::print("\nchart: {}\n", chart);
  }
  return 0;
}

}  // namespace moiety::cli
