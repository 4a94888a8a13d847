// moiety bench: how fast a model runs here, and how much of what this machine can do that is.
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/json.h"
#include "base/progress.h"
#include "bench/measure.h"
#include "cli/arguments.h"
#include "cli/bench_chart.h"
#include "cli/command.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/trace_option.h"
#include "format/synthetic.h"

namespace moiety::cli {
namespace {

using bench::Case;
using bench::Limits;
using bench::Phase;
using bench::Result;
using bench::Unit;

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
  std::string shape, type, save;
  int layers = 0;
  std::vector<size_t> prompts{512}, batches{1, 8}, depths{0};
  size_t new_tokens = 32;
  int rounds = 3;
  bool json = false;
  std::string plot;
  TraceOption trace;
};

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
  format::write_synthetic(path, shape->spec_of(layers), *mix, [&](size_t bytes, size_t all) {
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

Limits limits_of(const std::vector<Result>& results) {
  std::vector<Limits> all;
  for (const Result& result : results) all.insert(all.end(), result.limits.begin(), result.limits.end());
  return bench::median(all);
}

std::string binding(const Result& result, const Limits& limits) {
  const bench::Bound bound = bound_of(result.work, limits);
  return bound.is_memory() ? "memory" : bench::name(bound.unit);
}

Json to_json(const Result& result, const Limits& limits) {
  const bench::Work& work = result.work;
  return {{"phase", result.run.phase == Phase::Prefill ? "prefill" : "decode"},
          {"batch", result.run.sequences},
          {"tokens", result.run.tokens},
          {"depth", result.run.depth},
          {"tokens_per_second", result.tokens_per_second()},
          {"seconds", result.seconds},
          {"bytes_per_step", work.bytes() / work.steps},
          {"weight_bytes_per_step", work.weight_bytes / work.steps},
          {"bytes_per_second", result.bytes_per_second()},
          {"operations_per_second", result.operations_per_second()},
          {"experts_per_layer", work.sparse_layers > 0 ? work.experts / work.sparse_layers : 0},
          {"bound", binding(result, limits)},
          {"bound_tokens_per_second", result.bound_tokens_per_second()},
          {"share_of_bound", result.share_of_bound()}};
}

Json to_json(const Limits& limits) {
  Json json = {{"read_bytes_per_second", limits.read_bandwidth}};
  for (size_t unit = 0; unit < bench::kUnits; ++unit) {
    json[fmt::format("{}_operations_per_second", bench::name(static_cast<Unit>(unit)))] = limits.operations[unit];
  }
  return json;
}

void print_json(const OpenModel& model, const std::string& title, const std::vector<Result>& results, int rounds) {
  const Limits limits = limits_of(results);
  Json list = Json::array();
  for (const Result& result : results) list.push_back(to_json(result, limits));
  Json json = {{"model", title},
               {"kernels", model.compute.kernels.name},
               {"threads", model.threads.size()},
               {"rounds", rounds},
               {"parameters", model.file.spec().parameters()},
               {"active_parameters", model.file.spec().active_parameters()},
               {"limits", to_json(limits)},
               {"results", list}};
  if (const Json experts = expert_statistics_json(model); !experts.is_null()) json["experts"] = experts;
  fmt::print("{}\n", json.dump());
}

void print_table(const OpenModel& model, const std::string& title, const std::vector<Result>& results, int rounds) {
  const spec::ModelSpec& spec = model.file.spec();
  const Limits limits = limits_of(results);
  fmt::print("{}: {} parameters, {} active; {} kernels, {} threads, medians of {} rounds\n", title,
             short_number(static_cast<double>(spec.parameters())), short_number(static_cast<double>(spec.active_parameters())),
             model.compute.kernels.name, model.threads.size(), rounds);
  fmt::print("this machine reads {}B/s and computes", short_number(limits.read_bandwidth));
  for (size_t unit = 0; unit < bench::kUnits; ++unit) {
    fmt::print("{} {}op/s in {}", unit == 0 ? "" : ",", short_number(limits.operations[unit]), bench::name(static_cast<Unit>(unit)));
  }
  fmt::print("\n\n{:<20} {:>6} {:>10}  {:<26} {:>11} {:>12} {:>14}\n", "", "depth", "tokens/s", "of what binds", "read a step", "", "experts visited");
  for (const Result& result : results) {
    const bool prefill = result.run.phase == Phase::Prefill;
    const bench::Work& work = result.work;
    const std::string what = prefill ? fmt::format("prefill {}", result.run.tokens) : fmt::format("decode, batch {}", result.run.sequences);
    const std::string share = fmt::format("{:.0f} % of {:.0f} by {}", 100 * result.share_of_bound(), result.bound_tokens_per_second(),
                                          binding(result, limits));
    const std::string rate = binding(result, limits) == "memory" ? fmt::format("{}B/s", short_number(result.bytes_per_second()))
                                                                 : fmt::format("{}op/s", short_number(result.operations_per_second()));
    const std::string experts = work.sparse_layers == 0 ? "" : fmt::format("{:.1f} of {}", work.experts / work.sparse_layers, spec.moe.router.num_experts);
    fmt::print("{:<20} {:>6} {:>10.1f}  {:<26} {:>10}B {:>12} {:>14}\n", what, result.run.depth, result.tokens_per_second(), share,
               short_number(work.bytes() / work.steps), rate, experts);
  }
  if (const std::string experts = expert_statistics_text(model); !experts.empty()) fmt::print("\n{}\n", experts);
}

void add_options(CLI::App& app, Options& options) {
  options.model.add_to(app);
  options.model.add_memory_to(app);
  app.get_option("MODEL")->required(false);
  const auto tokens = CLI::Range(size_t{1}, size_t{1} << 20);
  app.add_option("--synthetic", options.shape, "a model of a published shape with random weights instead of MODEL");
  app.add_option("--type", options.type, "of its weights, as moiety quantize has them: q4_k_m, q8_0, … (default: what fits the shape)");
  app.add_option("--layers", options.layers, "so many of its layers")->check(CLI::Range(1, 1000));
  app.add_option("--save", options.save, "write it to this GGUF file and measure nothing");
  app.add_option("--prompt", options.prompts, "tokens of the prompts")->delimiter(',')->capture_default_str()->check(tokens);
  app.add_option("--batch", options.batches, "how many sequences decode side by side")->delimiter(',')->capture_default_str()->check(CLI::Range(1, 1024));
  app.add_option("--depth", options.depths, "tokens that are in the caches before")->delimiter(',')->capture_default_str()->check(CLI::Range(0, 1 << 20));
  app.add_option("--new", options.new_tokens, "tokens to decode in each sequence")->capture_default_str()->check(tokens);
  app.add_option("--runs", options.rounds, "medians of so many rounds, after one to warm up")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_flag("--json", options.json, "one JSON object");
  options.trace.add_to(app, "the tokens of the round to warm up, whose routing is that of the others,");
  app.add_option("--plot", options.plot, "draw speed over batch and depth into this SVG file");
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
  if (options.shape.empty() && !(options.save.empty() && options.type.empty() && options.layers == 0)) {
    fail(ErrorKind::Usage, "--save, --type and --layers are of --synthetic");
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
  bench::MeasureOptions measure{.rounds = options.rounds, .kv = model.kv};
  const std::string title = options.shape.empty() ? options.model.model : options.shape;
  measure.trace = options.trace.open(model.file.spec(), options.shape.empty() ? trace::model_name(title) : title);
  if (!options.model.memory.empty()) measure.limit_memory = std::min(measure.limit_memory, parse_bytes(options.model.memory) / 8);
  RunMemory memory{.other = measure.limit_memory};
  for (const Case& run : cases_of(options)) {
    memory.sequences.resize(std::max(memory.sequences.size(), run.sequences));
    for (size_t s = 0; s < run.sequences; ++s) memory.sequences[s] = std::max(memory.sequences[s], run.depth + run.tokens);
    if (run.phase == Phase::Prefill) memory.prompt = std::max(memory.prompt, run.tokens);
  }
  memory.logits = memory.sequences.size();
  fit_memory(model, options.model, memory);
  Progress progress("bench", 0, "tokens");
  measure.progress = [&](size_t done, size_t all) {
    progress.set_total(static_cast<double>(all));
    progress.update(static_cast<double>(done));
  };
  const auto results = bench::measure(model.transformer, model.compute, cases_of(options), measure);
  progress.finish();
  if (!options.plot.empty()) write_file(options.plot, draw_bench_chart(title, results));
  options.json ? print_json(model, title, results, options.rounds) : print_table(model, title, results, options.rounds);
  return 0;
}

}  // namespace moiety::cli
