// moiety bench: how fast a model runs here, and how much of what this machine can do that is.
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/progress.h"
#include "bench/measure.h"
#include "cli/arguments.h"
#include "cli/bench_chart.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/trace_option.h"
#include "format/synthetic.h"

namespace moiety::cli {
namespace {

using bench::Case;
using bench::Phase;

constexpr const char* kHelp =
    "Speed of a model on random tokens: prompts, and sequences decoded side by side, at one or more depths. Beside it what\n"
    "this machine could do, measured between the runs: memory read by all threads, and multiply-adds in the types that the\n"
    "weights are multiplied in. What a step must read is counted from the experts that it really visits.\n\n"
    "examples:\n"
    "  moiety bench model.gguf --prompt 128,512 --batch 1,8,16 --depth 0,8192 --plot speed.svg\n"
    "  moiety bench --synthetic olmoe-1b-7b\n"
    "  moiety bench --synthetic qwen3-30b-a3b --type q8_0 --layers 8 --save qwen.gguf";

struct Options {
  ModelArguments model;
  std::string shape, type, save, routing = "uniform";
  int layers = 0;
  std::vector<size_t> prompts{512}, batches{1, 8}, depths{0};
  size_t new_tokens = 32;
  std::string tokens = "random", save_tokens, disk_rate;
  int rounds = 3;
  bool json = false;
  std::string plot;
  TraceOption trace;
};

format::SyntheticRouting routing_of(const Options& options) {
  return options.routing == "skewed" ? format::SyntheticRouting::Skewed : format::SyntheticRouting::Uniform;
}

// A model of the shape in its default mixture unless another was asked for.
void write_shape(const Options& options, const fs::path& path) {
  const format::Shape* shape = format::shape_named(options.shape);
  if (shape == nullptr) {
    std::string names;
    for (const format::Shape& known : format::shapes()) names += fmt::format(" {}", known.name);
    fail(ErrorKind::Usage, "--synthetic {}: there is no such shape; these are:{}", options.shape, names);
  }
  const format::Mix* mix = format::mix_named(options.type.empty() ? shape->mix : options.type);
  if (mix == nullptr) {
    std::string names;
    for (const format::Mix& known : format::mixes()) names += fmt::format(" {}", known.name);
    fail(ErrorKind::Usage, "--type {}: there is no such mix of types; these are:{}", options.type, names);
  }
  const int layers = options.layers > 0 ? options.layers : shape->layers;
  if (layers > shape->published_layers) {
    fail(ErrorKind::Usage, "--layers {}: {} has {}", layers, shape->name, shape->published_layers);
  }
  Progress progress(fmt::format("writing {}, {} of {} layers, {}", shape->name, layers, shape->published_layers, mix->name), 0, "B");
  format::write_synthetic(path, shape->spec_of(layers), *mix, routing_of(options), [&](size_t bytes, size_t all) {
    progress.set_total(static_cast<double>(all));
    progress.update(static_cast<double>(bytes));
  });
}

// A file of a shape that is gone as soon as it is open.
class PassingFile {
 public:
  explicit PassingFile(const Options& options)
      : path_(fs::temp_directory_path() / fmt::format("moiety-{}-{}.gguf", options.shape, ::getpid())) {
    write_shape(options, path_);
  }
  ~PassingFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::vector<Case> cases_of(const Options& options) {
  std::vector<Case> cases;
  for (const size_t depth : options.depths) {
    for (const size_t prompt : options.prompts) cases.push_back({Phase::Prefill, 1, prompt, depth});
    for (const size_t batch : options.batches) cases.push_back({Phase::Decode, batch, options.new_tokens, depth});
  }
  return cases;
}

void add_options(CLI::App& app, Options& options) {
  options.model.add_to(app);
  options.model.add_memory_to(app);
  app.get_option("MODEL")->required(false);
  const auto tokens = CLI::Range(size_t{1}, size_t{1} << 20);
  app.add_option("--synthetic", options.shape, "a model of a published shape with random weights instead of MODEL");
  app.add_option("--type", options.type, "of its weights, as moiety quantize has them: q4_k_m, q8_0, … (default: what fits the shape)");
  app.add_option("--layers", options.layers, "so many of its layers")->check(CLI::Range(1, 1000));
  app.add_option("--routing", options.routing, "of it: uniform, or skewed as trained models' is (see --tokens topics)")->capture_default_str()->check(CLI::IsMember({"uniform", "skewed"}));
  app.add_option("--save", options.save, "write it to this GGUF file and measure nothing");
  app.add_option("--prompt", options.prompts, "tokens of the prompts")->delimiter(',')->capture_default_str()->check(tokens);
  app.add_option("--batch", options.batches, "how many sequences decode side by side")->delimiter(',')->capture_default_str()->check(CLI::Range(1, 1024));
  app.add_option("--depth", options.depths, "tokens that are in the caches before")->delimiter(',')->capture_default_str()->check(CLI::Range(0, 1 << 20));
  app.add_option("--new", options.new_tokens, "tokens to decode in each sequence")->capture_default_str()->check(tokens);
  app.add_option("--tokens", options.tokens, "random ids, or topics: runs of ids from one of 64 parts of the vocabulary, which skewed models route alike")->capture_default_str()->check(CLI::IsMember({"random", "topics"}));
  app.add_option("--save-tokens", options.save_tokens, "write the ids that all rounds are fed to this file and measure nothing");
  app.add_option("--disk-rate", options.disk_rate, "bytes a second that the disk gives, such as 1GB (default: measured)");
  app.add_option("--runs", options.rounds, "medians of so many rounds, after one to warm up")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_flag("--json", options.json, "one JSON object");
  options.trace.add_to(app, "the tokens of the round to warm up");
  app.add_option("--plot", options.plot, "draw speed over batch and depth into this SVG file");
}

bench::MeasureOptions measure_options(const Options& options, const OpenModel& model) {
  bench::MeasureOptions measure{.rounds = options.rounds, .kv = model.kv};
  measure.tokens = options.tokens == "topics" ? bench::TokenKind::Topics : bench::TokenKind::Random;
  measure.new_tokens = !options.model.memory.empty();
  if (!options.disk_rate.empty()) measure.disk_bandwidth = static_cast<double>(parse_bytes(options.disk_rate, "--disk-rate"));
  // What limits are measured with is no room for experts.
  if (!options.model.memory.empty()) measure.limit_memory = std::min(measure.limit_memory, parse_bytes(options.model.memory) / 32);
  return measure;
}

RunMemory memory_of(const std::vector<Case>& cases, const bench::MeasureOptions& measure) {
  RunMemory memory{.logits = 1, .other = measure.limit_memory};
  for (const auto& [depth, capacity_S] : bench::cache_capacities(cases)) {
    memory.sequences.insert(memory.sequences.end(), capacity_S.begin(), capacity_S.end());
    memory.logits = std::max(memory.logits, capacity_S.size());
    memory.prompt = std::max(memory.prompt, depth);
  }
  for (const Case& run : cases) {
    if (run.phase == Phase::Prefill) memory.prompt = std::max(memory.prompt, run.tokens);
  }
  return memory;
}

// A line for each sequence of each case of each round, the one that warms up first: "round case phase id id …".
void write_tokens(const Options& options, const spec::ModelSpec& spec, const std::vector<Case>& cases,
                  const bench::MeasureOptions& measure) {
  std::string lines;
  for (size_t round = 0; round <= static_cast<size_t>(options.rounds); ++round) {
    for (size_t number = 0; number < cases.size(); ++number) {
      if (cases[number].depth > 0) fail(ErrorKind::Usage, "--save-tokens is for runs at depth 0");
      for (size_t s = 0; s < cases[number].sequences; ++s) {
        lines += fmt::format("{} {} {}", round, number, cases[number].phase == Phase::Prefill ? "prefill" : "decode");
        for (const int32_t token : tokens_of(spec, cases, measure, {round, number, s})) lines += fmt::format(" {}", token);
        lines += "\n";
      }
    }
  }
  write_file(options.save_tokens, lines);
}

// The defaults make room for themselves in a small model's context.
void fit_defaults(const CLI::App& app, const spec::ModelSpec& spec, Options& options) {
  const size_t deepest = *std::max_element(options.depths.begin(), options.depths.end());
  const size_t context = static_cast<size_t>(spec.max_positions), room = context > deepest ? context - deepest : 1;
  if (app.get_option("--prompt")->empty()) options.prompts = {std::min(options.prompts[0], room)};
  if (app.get_option("--new")->empty()) options.new_tokens = std::min(options.new_tokens, room);
}

}  // namespace

int bench(int argc, char** argv) {
  Options options;
  CLI::App app(kHelp, "moiety bench");
  add_options(app, options);
  if (const auto status = parse(app, argc, argv)) return *status;
  if (options.model.model.empty() == options.shape.empty()) fail(ErrorKind::Usage, "name a MODEL or a shape (--synthetic), one of them");
  if (options.shape.empty() && !(options.save.empty() && options.type.empty() && options.layers == 0 && options.routing == "uniform")) {
    fail(ErrorKind::Usage, "--save, --type, --layers and --routing are of --synthetic");
  }
  if (!options.save.empty()) {
    write_shape(options, options.save);
    fmt::print("{}: {}\n", options.save, options.shape);
    return 0;
  }

  std::optional<PassingFile> file;
  if (!options.shape.empty()) options.model.model = file.emplace(options).path().string();
  OpenModel model(options.model);
  file.reset();
  fit_defaults(app, model.file.spec(), options);
  const std::vector<Case> cases = cases_of(options);
  bench::MeasureOptions measure = measure_options(options, model);
  const std::string title = options.shape.empty() ? options.model.model : options.shape;
  if (!options.save_tokens.empty()) {
    write_tokens(options, model.file.spec(), cases, measure);
    return 0;
  }
  measure.trace = options.trace.open(model.file.spec(), options.shape.empty() ? trace::model_name(title) : title);
  fit_memory(model, options.model, memory_of(cases, measure));
  measure.new_tokens |= model.transformer.expert_statistics() != nullptr;
  Progress progress("bench", 0, "tokens");
  measure.progress = [&](size_t done, size_t all) {
    progress.set_total(static_cast<double>(all));
    progress.update(static_cast<double>(done));
  };
  const auto results = bench::measure(model.transformer, model.compute, cases, measure);
  progress.finish();
  if (!options.plot.empty()) write_file(options.plot, draw_bench_chart(title, results));
  fmt::print("{}", options.json ? bench_json(model, title, results) : bench_table(model, title, results));
  return 0;
}

}  // namespace moiety::cli
