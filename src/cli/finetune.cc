// moiety finetune: training that begins with a model, or with one that is made of dense ones first.
#include <algorithm>

#include "base/json.h"
#include "base/progress.h"
#include "base/say.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_tokenizer.h"
#include "format/importance.h"
#include "format/tokenizer_json.h"
#include "trace/trace_file.h"
#include "upcycle/depth.h"
#include "upcycle/experts.h"
#include "upcycle/modules.h"
#include "upcycle/split.h"
#include "upcycle/width.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Train a model further, or one that is made first: experts out of dense feed-forwards, several models in one, wider and\n"
    "deeper ones. CONFIG.toml is moiety train's; its [model] and [tokenizer] are the model's then.\n\n"
    "examples:\n"
    "  moiety finetune more.toml --from run\n"
    "  moiety finetune more.toml --upcycle dense/run --start start --copies 8\n"
    "  moiety finetune --upcycle dense/run --start start --copies 8 --parts 4 --experts-per-token 8\n"
    "  moiety finetune --upcycle german/run code/run --start start\n"
    "  moiety finetune --upcycle dense/run --start start --statistics de.gguf --statistics code.gguf\n"
    "  moiety finetune --upcycle dense/run --start start --grow-width 256 --grow-layers 8\n"
    "  moiety finetune more.toml --upcycle run --start start --add-experts 4\n"
    "  moiety finetune --upcycle run --start start --drop-by routes.trace --drop-below 0.1";

constexpr const char* kRecord = "upcycle.json";

struct Arguments {
  std::string config, from, start, score = "softmax", neurons = "copies", depth = "interpolated", gate = "linear", drop_by;
  std::vector<std::string> overrides, models, statistics;
  upcycle::Copies copies;
  upcycle::Width width;
  int layers = 0, expert_hidden = 0, new_experts = 0, new_attention_experts = 0;
  double drop_below = 0;
  bool no_renormalise = false, json = false;
};

void add_experts_to(CLI::App& app, Arguments& a) {
  const char* group = "Experts";
  app.add_option("--copies", a.copies.copies,
                 "how many copies of a feed-forward there are (default: 8; of several models one of each)")
      ->check(CLI::Range(1, 1 << 14))
      ->group(group);
  app.add_option("--parts", a.copies.parts, "experts that each copy is divided into")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 14))
      ->group(group);
  app.add_option("--experts-per-token", a.copies.experts_per_token, "(default: those of two copies)")
      ->check(CLI::Range(1, 1 << 14))
      ->group(group);
  app.add_option("--score", a.score, "softmax or sigmoid")
      ->capture_default_str()
      ->check(CLI::IsMember({"softmax", "sigmoid"}))
      ->group(group);
  app.add_flag("--no-renormalise", a.no_renormalise, "mixing weights are scores, which don't sum to one")->group(group);
  app.add_option("--dense-layers", a.copies.dense_layers, "so many first layers stay dense")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 12))
      ->group(group);
  app.add_option("--every", a.copies.every, "of the others every so manieth gets experts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 12))
      ->group(group);
  app.add_flag("--keep-dense", a.copies.keep_dense,
               "the feed-forward stays, as a shared expert; the others begin with giving nothing")
      ->group(group);
  app.add_flag("--ternary", a.copies.ternary, "experts' weights are -1, 0 or 1 times a scale; best with --keep-dense")
      ->group(group);
  app.add_option("--noise", a.copies.noise, "added to the experts' weights, as a share of their size")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0))
      ->group(group);
  app.add_option(
         "--attention-experts-per-token", a.copies.attention_experts_per_token,
         "of several models: attention's queries and outputs are experts too, one of each, of which a token takes so many")
      ->check(CLI::Range(1, 1 << 14))
      ->group(group);
  app.add_option("--gate", a.gate, "what router logits are made of: linear, cosine, recurrent, ahead or decoupled")
      ->capture_default_str()
      ->check(CLI::IsMember({"linear", "cosine", "recurrent", "ahead", "decoupled"}))
      ->group(group);
  app.add_option("--gate-width", a.copies.gate.width, "of a cosine, recurrent or decoupled gate")
      ->check(CLI::Range(1, 1 << 16))
      ->group(group);
  app.add_option("--router-deviation", a.copies.gate.deviation, "of the routers' random weights")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0))
      ->group(group);
  app.add_option("--statistics", a.statistics,
                 "what moiety importance wrote of the dense model on one domain's text: instead of copies an expert a domain, of "
                 "the hidden units that give most there")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--expert-hidden", a.expert_hidden, "hidden units of such an expert (default: half)")
      ->check(CLI::Range(1, 1 << 18))
      ->group(group);
}

void add_growth_to(CLI::App& app, Arguments& a) {
  const char* group = "Growth";
  app.add_option("--grow-width", a.width.width, "the model's width")->check(CLI::Range(1, 1 << 16))->group(group);
  app.add_option("--grow-hidden", a.width.dense_hidden, "hidden units of the dense feed-forwards")
      ->check(CLI::Range(1, 1 << 18))
      ->group(group);
  app.add_option("--grow-kv-heads", a.width.kv_heads, "key-value heads; there are as many heads to each as before")
      ->check(CLI::Range(1, 4096))
      ->group(group);
  app.add_option("--neurons", a.neurons, "new neurons are copies, which preserve the function, or those of the next layer")
      ->capture_default_str()
      ->check(CLI::IsMember({"copies", "next-layer"}))
      ->group(group);
  app.add_option("--grow-noise", a.width.noise, "by how much copies are read differently; it cancels out")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0))
      ->group(group);
  app.add_option("--grow-layers", a.layers, "how many layers")->check(CLI::Range(1, 4096))->group(group);
  app.add_option("--depth", a.depth,
                 "new layers: interpolated (beside their originals), stacked, or silent (beside, adding nothing, which preserves "
                 "the function)")
      ->capture_default_str()
      ->check(CLI::IsMember({"interpolated", "stacked", "silent"}))
      ->group(group);
}

void add_modules_to(CLI::App& app, Arguments& a) {
  const char* group = "Modules";
  app.add_option("--add-experts", a.new_experts, "so many new experts for each layer that has some, beside them")
      ->check(CLI::Range(1, 1 << 14))
      ->group(group);
  app.add_option("--add-attention-experts", a.new_attention_experts, "the same of attention's")
      ->check(CLI::Range(1, 1 << 14))
      ->group(group);
  CLI::Option* trace = app.add_option("--drop-by", a.drop_by, "a routing trace: experts that nobody visits in it are left out")
                           ->check(CLI::ExistingFile)
                           ->group(group);
  app.add_option("--drop-below", a.drop_below, "and those that have less than this share of their layer's mean visits")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e6))
      ->needs(trace)
      ->group(group);
}

spec::Gate gate_named(const std::string& name) {
  using enum spec::Gate;
  return name == "cosine"      ? Cosine
         : name == "recurrent" ? Recurrent
         : name == "ahead"     ? Ahead
         : name == "decoupled" ? Decoupled
                               : Linear;
}

bool grows_width(const Arguments& a) { return a.width.width > 0 || a.width.dense_hidden > 0 || a.width.kv_heads > 0; }
bool grows(const Arguments& a) { return grows_width(a) || a.layers > 0; }

bool changes_modules(const Arguments& a) { return a.new_experts > 0 || a.new_attention_experts > 0 || !a.drop_by.empty(); }

// How often each expert of each layer is visited in a trace of the model.
std::vector<std::vector<int64_t>> visits_in(const std::string& path, const spec::ModelSpec& spec) {
  trace::TraceReader reader(path);
  const trace::TraceHeader& header = reader.header();
  require(header.sparse_layers == trace::header_of(spec, "").sparse_layers && header.num_experts == spec.moe.router.num_experts,
          "{}: the trace of a model with other layers or experts", path);
  std::vector<std::vector<int64_t>> visits_LE;
  for (int layer = 0; layer < spec.num_layers; ++layer) visits_LE.emplace_back(static_cast<size_t>(spec.experts(layer)), 0);
  for (trace::StepTrace step; reader.next(step);) {
    for (size_t i = 0; i < header.sparse_layers.size(); ++i) {
      std::vector<int64_t>& visits_E = visits_LE[static_cast<size_t>(header.sparse_layers[i])];
      for (const int32_t expert : step.by_sparse_layer[i].experts_N) {
        require(static_cast<size_t>(expert) < visits_E.size(), "{}: layer {} visits expert {}, of {} that the model has there", path, header.sparse_layers[i],
                expert, visits_E.size());
        ++visits_E[static_cast<size_t>(expert)];
      }
    }
  }
  return visits_LE;
}

upcycle::MadeModel change_modules(upcycle::MadeModel model, const Arguments& a) {
  const spec::ModelSpec& spec = model.spec;
  upcycle::Modules modules = upcycle::modules_of(spec);
  modules.router_deviation = a.copies.gate.deviation;
  modules.seed = a.copies.seed;
  const auto visits_LE = a.drop_by.empty() ? std::vector<std::vector<int64_t>>() : visits_in(a.drop_by, spec);
  for (size_t layer = 0; layer < modules.experts_L.size(); ++layer) {
    std::vector<int>& experts = modules.experts_L[layer];
    if (experts.empty()) continue;
    if (!visits_LE.empty()) experts = upcycle::busy_experts(visits_LE[layer], a.drop_below, spec.moe.router.experts_per_token);
    experts.insert(experts.end(), static_cast<size_t>(a.new_experts), upcycle::kNewExpert);
  }
  require(a.new_attention_experts == 0 || spec.attention.experts, "--add-attention-experts: the model's attention is no matter of experts");
  modules.attention_experts.insert(modules.attention_experts.end(), static_cast<size_t>(a.new_attention_experts), upcycle::kNewExpert);
  return upcycle::with_modules(std::move(model), modules);
}

// Only growth was asked for: the model stays as dense as it is.
bool makes_experts(const CLI::App& app, const Arguments& a) {
  if (!grows(a) || a.models.size() > 1) return true;
  return std::ranges::any_of(app.get_options(),
                             [](const CLI::Option* option) { return option->get_group() == "Experts" && option->count() > 0; });
}

struct Made {
  upcycle::MadeModel model;
  bool preserves = true;  // the one model's function
};

Made make(const CLI::App& app, const Arguments& a, const std::vector<std::unique_ptr<format::ModelFile>>& files) {
  std::vector<upcycle::MadeModel> models;
  for (const auto& file : files) models.push_back(upcycle::model_of(*file));
  Made made;
  if (changes_modules(a)) {
    if (models.size() > 1 || grows(a)) fail(ErrorKind::Usage, "experts come and go in one model, which doesn't grow otherwise");
    return {change_modules(std::move(models.front()), a), false};
  }
  for (upcycle::MadeModel& model : models) {
    if (grows_width(a)) {
      model = upcycle::grow_width(std::move(model), a.width);
      made.preserves &= a.width.neurons == upcycle::NewNeurons::Copies;
    }
    if (a.layers > 0) {
      const auto how = a.depth == "silent"    ? upcycle::NewLayers::Silent
                       : a.depth == "stacked" ? upcycle::NewLayers::Stacked
                                              : upcycle::NewLayers::Interpolated;
      made.preserves &= how == upcycle::NewLayers::Silent || a.layers == model.spec.num_layers;
      model = upcycle::grow_depth(std::move(model), a.layers, how);
    }
  }
  if (!makes_experts(app, a)) {
    made.model = std::move(models.front());
  } else if (a.statistics.empty()) {
    made.model = upcycle::mix_experts(std::move(models), a.copies);
    made.preserves &= upcycle::mixing_preserves(made.model, files.size(), a.copies);
  } else {
    if (models.size() > 1) fail(ErrorKind::Usage, "--statistics: one model is split by what it does on several domains");
    std::vector<format::Importance> domains;
    for (const std::string& path : a.statistics) domains.push_back(format::read_importance(path));
    made.model = upcycle::split_by_use(std::move(models.front()), domains,
                                       {.expert_hidden = a.expert_hidden,
                                        .experts_per_token = a.copies.experts_per_token,
                                        .dense_layers = a.copies.dense_layers,
                                        .gate = a.copies.gate,
                                        .seed = a.copies.seed});
    made.preserves = false;
  }
  return made;
}

// What a start was made of and how: one that is there is used again only if it was made so.
Json record_of(const CLI::App& app, const std::vector<std::unique_ptr<format::ModelFile>>& files) {
  Json record = {{"models", Json::array()}, {"options", Json::object()}};
  for (const auto& file : files) record["models"].push_back(fs::absolute(file->path()).lexically_normal().string());
  for (const CLI::Option* option : app.get_options()) {
    const bool counts = option->get_group() == "Experts" || option->get_group() == "Growth" || option->get_group() == "Modules" || option->check_lname("seed");
    if (counts && option->count() > 0) record["options"][option->get_name()] = option->results();
  }
  return record;
}

bool is_there(const fs::path& start, const Json& record) {
  if (!fs::exists(start)) return false;
  const fs::path path = start / kRecord;
  const bool same = fs::exists(path) && parse_json(read_file(path), path.string()) == record;
  require(same, "{}: there is something else already; choose another --start or remove it", start.string());
  return true;
}

void write_start(const upcycle::MadeModel& model, const fs::path& tokenizer_of, const Json& record, const fs::path& start) {
  AtomicFolder folder(start);
  Progress progress("upcycle", static_cast<double>(model.spec.parameters()), "weights");
  size_t done = 0;
  upcycle::write_model(model, folder.path(), [&](size_t elements) { progress.update(static_cast<double>(done += elements)); });
  progress.finish();
  if (const auto tokenizer = find_tokenizer(tokenizer_of)) {
    write_file(folder.path() / "tokenizer.json", format::write_tokenizer_json(tokenizer->spec()));
  }
  write_file(folder.path() / kRecord, record.dump(2) + "\n");
  folder.commit();
}

std::string sentence(const Json& report) {
  std::string text = fmt::format("{}: {} layers of width {}, ", report["start"].get<std::string>(), report["layers"].get<int>(),
                                 report["width"].get<int>());
  if (report["experts"].get<int>() > 0) {
    text += fmt::format("{} experts of {}, {} a token, ", report["experts"].get<int>(), report["expert_hidden"].get<int>(),
                        report["experts_per_token"].get<int>());
  }
  return text + fmt::format("{} parameters, {} active; {}", short_number(report["parameters"].get<double>()),
                            short_number(report["active_parameters"].get<double>()),
                            report["preserves"].get<bool>() ? "it computes what the model did"
                                                            : "it does not compute what the model did");
}

// The folder of the start, made unless it is there.
void make_start(const CLI::App& app, const Arguments& a) {
  if (a.start.empty()) fail(ErrorKind::Usage, "--upcycle: --start FOLDER says where the model that it makes is written");
  std::vector<std::unique_ptr<format::ModelFile>> files;
  for (const std::string& path : a.models) files.push_back(std::make_unique<format::ModelFile>(path));
  const Json record = record_of(app, files);
  const Made made = make(app, a, files);
  const bool was_there = is_there(a.start, record);
  if (!was_there) write_start(made.model, files.front()->path(), record, a.start);

  const spec::ModelSpec& s = made.model.spec;
  const bool sparse = s.moe_layers() > 0;
  const Json report = {{"start", a.start},
                       {"was_there", was_there},
                       {"layers", s.num_layers},
                       {"sparse_layers", s.moe_layers()},
                       {"width", s.width},
                       {"experts", sparse ? s.moe.router.num_experts : 0},
                       {"experts_per_token", sparse ? s.moe.router.experts_per_token : 0},
                       {"expert_hidden", sparse ? s.moe.expert_hidden : 0},
                       {"parameters", s.parameters()},
                       {"active_parameters", s.active_parameters()},
                       {"preserves", made.preserves}};
  if (!a.config.empty()) {
    say("{}\n", sentence(report));  // stdout is the training's
  } else if (a.json) {
    fmt::print("{}\n", report.dump());
  } else {
    fmt::print("{}\n", sentence(report));
  }
}

// A string in TOML's words.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return out + "\"";
}

int train_from(const Arguments& a, const std::string& model) {
  std::vector<std::string> words = {"train", a.config, "--set", "run.from=" + quoted(model)};
  for (const std::string& text : a.overrides) words.insert(words.end(), {"--set", text});
  if (a.json) words.push_back("--json");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return train(static_cast<int>(pointers.size()), pointers.data());
}

}  // namespace

int finetune(int argc, char** argv) {
  Arguments a;
  CLI::App app(kHelp, "moiety finetune");
  app.add_option("CONFIG.toml", a.config, "what to train on, for how long; without it only the start is made");
  app.add_option("--set", a.overrides, "section.key=value: instead of what CONFIG.toml says")->allow_extra_args(false);
  CLI::Option* from =
      app.add_option("--from", a.from, "a model to go on with: a training run or checkpoint, a Hugging Face folder");
  app.add_option("--upcycle", a.models,
                 "dense models, of which one is made first, or one with experts, of which some come or go: runs, checkpoints, Hugging Face folders, GGUF files")
      ->excludes(from);
  app.add_option("--start", a.start, "the folder that it is written to, and read from again by the same command");
  app.add_option("--seed", a.copies.seed, "of all random numbers of the start")->capture_default_str();
  app.add_flag("--json", a.json, "print the result as JSON");
  add_experts_to(app, a);
  add_growth_to(app, a);
  add_modules_to(app, a);
  if (const auto status = parse(app, argc, argv)) return *status;
  a.copies.score = a.score == "softmax" ? spec::Score::Softmax : spec::Score::Sigmoid;
  a.copies.renormalise = !a.no_renormalise;
  a.copies.gate.kind = gate_named(a.gate);
  a.width.neurons = a.neurons == "copies" ? upcycle::NewNeurons::Copies : upcycle::NewNeurons::NextLayer;
  a.width.seed = a.copies.seed;

  if (!a.models.empty()) {
    make_start(app, a);
    return a.config.empty() ? 0 : train_from(a, a.start);
  }
  if (a.from.empty())
    fail(ErrorKind::Usage, "there must be a model to begin with: --from MODEL, or --upcycle MODEL… --start FOLDER");
  if (a.config.empty()) fail(ErrorKind::Usage, "--from: CONFIG.toml says what to train on");
  return train_from(a, a.from);
}

}  // namespace moiety::cli
