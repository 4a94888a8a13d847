// moiety trace replay: what a cache of experts would have found, by policy and size.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "base/json.h"
#include "base/progress.h"
#include "cli/arguments.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/past_visits.h"
#include "cli/replay_chart.h"
#include "cli/trace.h"
#include "store/replay.h"

namespace moiety::cli {
namespace {

using store::CachePolicy;

constexpr const char* kHelp =
    "What a cache of experts would have found in memory, had it kept the books of a traced run: by policy and size, beside what\n"
    "the best possible cache finds (belady), which knows what comes. With a model and amounts of memory the sizes are those of a\n"
    "run with --memory, and the bytes and tokens a second those that a disk of the given rate allows.\n\n"
    "examples:\n"
    "  moiety trace replay routes.trace --share 0.125,0.25,0.5 --plot caches.svg\n"
    "  moiety trace replay routes.trace --model model.gguf --memory 4GiB,8GiB --disk 2GB --policy auto,lru,belady";

struct Options {
  std::string path, model, disk = "1GB", plot;
  std::vector<std::string> policies, memory;
  std::vector<double> shares;
  std::vector<size_t> slots;
  std::string pin;
  bool token_by_token = false, json = false;
};

// A cache's size, and what it takes to fill it.
struct Size {
  std::string name;
  size_t slots = 0;                                // for experts of average size
  size_t room = 0;                                 // the same, in what sizes_LE counts in
  std::vector<std::vector<size_t>> sizes_LE = {};  // as ExpertCache has them
  std::function<size_t(size_t)> room_beside = {};  // empty: always all
};

struct Row {
  const Size* size;
  CachePolicy policy;
  store::ReplayResult result;
};

std::vector<CachePolicy> policies_of(const Options& options) {
  if (options.policies.empty()) {
    return {CachePolicy::Lru,   CachePolicy::Lfu,  CachePolicy::Weight, CachePolicy::Distance,
            CachePolicy::Blend, CachePolicy::Auto, CachePolicy::Belady};
  }
  std::vector<CachePolicy> policies;
  for (const std::string& name : options.policies) {
    const auto policy = store::policy_named(name);
    if (!policy) fail(ErrorKind::Usage, "--policy {}: expected auto, lru, lfu, weight, distance, blend or belady", name);
    policies.push_back(*policy);
  }
  return policies;
}

// What one expert takes on the disk and how many slots amounts of memory leave, as a run would have it.
struct ModelSizes {
  std::vector<Size> sizes;
  size_t expert_bytes = 0;
};
ModelSizes sizes_with_model(const Options& options) {
  ModelSizes out;
  for (const std::string& memory : options.memory) {
    ModelArguments arguments;
    arguments.model = options.model;
    arguments.memory = memory;
    auto model = std::make_shared<OpenModel>(arguments);
    const size_t context = std::min<size_t>(4096, static_cast<size_t>(model->file.spec().max_positions));
    fit_memory(*model, arguments, {.sequences = {context}, .prompt = context});
    model::StreamedExperts& experts = model->transformer.streamed_experts();
    out.expert_bytes = experts.bytes_as_read();
    if (!experts.is_open()) {
      out.sizes.push_back({memory, experts.count(), experts.count()});
      continue;
    }
    const store::ExpertCache& cache = experts.store().cache();
    out.sizes.push_back({memory, cache.slots(), cache.room(), cache.sizes(), [model, &experts](size_t tokens) { return experts.room_beside(tokens, 1); }});
  }
  return out;
}

std::vector<Size> sizes_of(const Options& options, const PastVisits& past) {
  const size_t all = past.header.sparse_layers.size() * static_cast<size_t>(past.header.num_experts);
  std::vector<Size> sizes;
  const auto add = [&](std::string name, size_t slots) { sizes.push_back({std::move(name), slots, slots}); };
  for (const size_t slots : options.slots) add(fmt::format("{} slots", slots), std::min(slots, all));
  std::vector<double> shares = options.shares;
  if (shares.empty() && sizes.empty()) shares = {0.125, 0.25, 0.5, 0.75};
  for (const double share : shares) {
    add(fmt::format("{:.4g} %", 100 * share), static_cast<size_t>(std::lround(share * static_cast<double>(all))));
  }
  return sizes;
}

double per_token(uint64_t count, const PastVisits& past) { return static_cast<double>(count) / static_cast<double>(past.tokens); }

void print_table(const PastVisits& past, const std::vector<Row>& rows, size_t expert_bytes, double disk) {
  fmt::print("{}: {} tokens, {} visits of layers\n\n{:<12}{:>9}  {:<10}{:>10}{:>14}{:>16}", past.header.model, past.tokens, past.visits.size(), "size",
             "slots", "policy", "hit rate", "misses/token", "misses/lru's");
  if (expert_bytes > 0) fmt::print("{:>14}{:>12}", "bytes/token", "tokens/s");
  fmt::print("\n");
  for (const Row& row : rows) {
    double lru = 0;
    for (const Row& other : rows) {
      if (other.size == row.size && other.policy == CachePolicy::Lru) lru = static_cast<double>(other.result.misses);
    }
    const double misses = per_token(row.result.misses, past), bytes = misses * static_cast<double>(expert_bytes);
    fmt::print("{:<12}{:>9}  {:<10}{:>8.2f} %{:>14.2f}{:>16}", row.size->name, row.size->slots, store::name(row.policy), 100 * row.result.hit_rate(), misses,
               lru > 0 ? fmt::format("{:.3f}", static_cast<double>(row.result.misses) / lru) : "");
    if (expert_bytes > 0) fmt::print("{:>12}B{:>12.2f}", short_number(bytes), disk / bytes);
    fmt::print("\n");
  }
}

Json to_json(const PastVisits& past, const std::vector<Row>& rows, size_t expert_bytes, double disk) {
  Json list = Json::array();
  for (const Row& row : rows) {
    Json json = {{"size", row.size->name},         {"slots", row.size->slots},        {"policy", store::name(row.policy)},
                 {"hits", row.result.hits},        {"misses", row.result.misses},     {"hit_rate", row.result.hit_rate()},
                 {"decode_hits", row.result.decode_hits}, {"decode_misses", row.result.decode_misses}};
    if (expert_bytes > 0) {
      const double bytes = per_token(row.result.misses, past) * static_cast<double>(expert_bytes);
      json["bytes_per_token"] = bytes;
      json["tokens_per_second"] = disk / bytes;
    }
    list.push_back(json);
  }
  return {{"model", past.header.model}, {"tokens", past.tokens}, {"results", list}};
}

}  // namespace

int trace_replay(int argc, char** argv) {
  Options options;
  CLI::App app(kHelp, "moiety trace replay");
  app.add_option("TRACE", options.path, "a routing trace")->required();
  app.add_option("--policy", options.policies, "auto, lru, lfu, weight, distance, blend, belady (default: all)")->delimiter(',');
  auto* shares = app.add_option("--share", options.shares, "sizes as shares of all experts (default: 0.125,0.25,0.5,0.75)")->delimiter(',')->check(CLI::Range(0.0, 1.0));
  auto* slots = app.add_option("--slots", options.slots, "sizes in experts")->delimiter(',');
  auto* model = app.add_option("--model", options.model, "the model, for --memory");
  auto* memory = app.add_option("--memory", options.memory, "sizes as what a run of the model may hold, such as 4GiB")->delimiter(',')->needs(model)->excludes(shares)->excludes(slots);
  model->needs(memory);
  app.add_option("--disk", options.disk, "bytes a second that the disk gives, such as 2GB; with --memory")->capture_default_str();
  app.add_option("--pin", options.pin, "the experts that this other trace used most stay, in half of the places");
  app.add_flag("--token-by-token", options.token_by_token, "as if each token of the trace had been a step of its own");
  app.add_flag("--json", options.json, "one JSON object");
  app.add_option("--plot", options.plot, "draw hit rates over sizes into this SVG file");
  if (const auto status = parse(app, argc, argv)) return *status;
  const std::vector<CachePolicy> policies = policies_of(options);
  const double disk = static_cast<double>(parse_bytes(options.disk, "--disk"));

  const PastVisits past = read_past_visits(options.path, options.token_by_token);
  ModelSizes with_model;
  if (!options.model.empty()) with_model = sizes_with_model(options);
  const std::vector<Size> sizes = options.model.empty() ? sizes_of(options, past) : with_model.sizes;
  std::vector<store::ExpertId> hot;  // the most used first
  if (!options.pin.empty()) {
    const PastVisits other = read_past_visits(options.pin, false);
    require(other.experts_L == past.experts_L, "--pin {}: a trace of {}, whose layers and experts are not those of {}", options.pin,
            other.header.model, past.header.model);
    hot = store::hot_set(other.experts_L, other.visits, SIZE_MAX);
  }
  std::vector<Row> rows;
  Progress progress("replay", static_cast<double>(sizes.size() * policies.size()), "caches");
  for (const Size& size : sizes) {
    for (const CachePolicy policy : policies) {
      const size_t pinned = std::min(size.slots / 2, hot.size());
      const std::vector<store::ExpertId> stay(hot.begin(), hot.begin() + static_cast<std::ptrdiff_t>(pinned));
      store::ReplayOptions cache;
      cache.cache.room = size.room;
      cache.cache.sizes_LE = size.sizes_LE;
      cache.cache.policy = policy;
      cache.cache.pinned = stay;
      cache.room_beside = size.room_beside;
      rows.push_back({&size, policy, store::replay(past.experts_L, past.visits, cache)});
      progress.update(static_cast<double>(rows.size()));
    }
  }
  progress.finish();
  if (!options.plot.empty()) {
    std::vector<ReplayPoint> points;
    for (const Row& row : rows) points.push_back({std::string(store::name(row.policy)), row.size->slots, row.result.hit_rate()});
    write_file(options.plot, draw_replay_chart(past.header.model, points));
  }
  options.json ? fmt::print("{}\n", to_json(past, rows, with_model.expert_bytes, disk).dump())
               : print_table(past, rows, with_model.expert_bytes, disk);
  return 0;
}

}  // namespace moiety::cli
