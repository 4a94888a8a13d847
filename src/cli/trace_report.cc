// moiety trace report: what can be read off a routing trace.
#include <algorithm>

#include "base/json.h"
#include "base/progress.h"
#include "cli/arguments.h"
#include "cli/open_model.h"
#include "cli/trace.h"
#include "cli/trace_chart.h"
#include "trace/report.h"
#include "trace/trace_file.h"

namespace moiety::cli {
namespace {

using trace::LayerReport;
using trace::Report;

constexpr const char* kHelp =
    "What can be read off a routing trace: how evenly each layer's experts are visited, how soon they are visited again, whether\n"
    "neighbouring tokens want the same ones, what a cache of experts could find, what one layer's choice says of the next one's,\n"
    "how kinds of text differ. docs/traces.md says what each number means.\n\n"
    "example: moiety trace report routes.trace --plot routes.svg";

struct Read {
  trace::TraceHeader header;
  trace::RunCollector runs;
  size_t steps = 0;
};

// At most so many tokens (0: all).
Read read_trace(const fs::path& path, size_t most_tokens) {
  trace::TraceReader reader(path);
  Read read{reader.header(), {}, 0};
  Progress progress("reading the trace", static_cast<double>(reader.size()), "B");
  size_t tokens = 0;
  for (trace::StepTrace step; (most_tokens == 0 || tokens < most_tokens) && reader.next(step); ++read.steps) {
    read.runs.add(step);
    tokens += static_cast<size_t>(step.num_tokens());
    progress.update(static_cast<double>(reader.position()));
  }
  progress.finish();
  require(tokens > 0, "{}: no step in it", path.string());
  return read;
}

std::string shown(const std::string& domain) { return domain.empty() ? "(none)" : domain; }

// -1 stands for none.
Json or_null(int number) { return number < 0 ? Json() : Json(number); }
// Null if no run is as long as the segment.
Json to_json(const trace::SegmentRouting& routing, int segment) {
  const bool is_none = routing.experts == 0;
  return {{"segment", segment}, {"srp", is_none ? Json() : Json(routing.srp)}, {"experts", is_none ? Json() : Json(routing.experts)}};
}

Json to_json(const LayerReport& layer, const Report& report) {
  Json routing = Json::array(), caches = Json::array();
  for (size_t s = 0; s < report.segments.size(); ++s) {
    std::vector<double> rates;
    for (const int slots : report.slots) rates.push_back(layer.caches[s].rate(slots));
    routing.push_back(to_json(layer.routing[s], report.segments[s]));
    caches.push_back({{"segment", report.segments[s]}, {"sch", rates}});
  }
  Json json = {{"layer", layer.number},
               {"visits", layer.visits_E},
               {"max_over_mean", layer.balance.max_over_mean},
               {"entropy", layer.balance.entropy},
               {"idle", layer.balance.idle},
               {"experts_for_half", layer.half_set},
               {"experts_for_80_percent", layer.most_set},
               {"first_visits", layer.reuse.first_visits},
               {"reuse_distance_median", or_null(layer.reuse.quantile(0.5))},
               {"reuse_distance_p90", or_null(layer.reuse.quantile(0.9))},
               {"repeated", layer.repetition.share},
               {"repeated_by_chance", layer.repetition.by_chance},
               {"srp", routing},
               {"sch", caches}};
  if (layer.to_next) {
    Json pairs = Json::array();
    for (const auto& pair : layer.to_next->strongest) {
      pairs.push_back({{"expert", pair.expert}, {"next", pair.next}, {"tokens", pair.tokens}, {"share", pair.share}, {"by_chance", pair.by_chance}});
    }
    json["to_next_layer"] = {{"bits", layer.to_next->bits}, {"bits_elsewhere", layer.to_next->bits_elsewhere}, {"pairs", pairs}};
  }
  return json;
}

void print_json(const Report& report, size_t steps) {
  Json layers = Json::array(), domains = Json::array(), pairs = Json::array(), consistency = Json::array();
  for (const LayerReport& layer : report.layers) layers.push_back(to_json(layer, report));
  for (const auto& [name, tokens] : report.tokens_by_domain) domains.push_back({{"name", name}, {"tokens", tokens}});
  for (const auto& pair : report.domain_pairs) pairs.push_back({{"one", pair.one}, {"other", pair.other}, {"bits", pair.bits}});
  for (size_t s = 0; s < report.segments.size(); ++s) {
    std::vector<double> rates;
    for (size_t size = 0; size < report.slots.size(); ++size) rates.push_back(report.cache_rate(s, size));
    consistency.push_back(to_json(report.routing[s], report.segments[s]));
    consistency.back()["sch"] = rates;
  }
  const Json json = {{"model", report.header.model},
                     {"layers_of_model", report.header.num_layers},
                     {"experts", report.header.num_experts},
                     {"experts_per_token", report.header.experts_per_token},
                     {"steps", steps},
                     {"tokens", report.tokens},
                     {"sequences", report.sequences},
                     {"domains", domains},
                     {"cache_sizes", report.cache_sizes},
                     {"cache_experts", report.slots},
                     {"local_consistency", consistency},
                     {"domain_divergence", pairs},
                     {"layers", layers}};
  fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void print_layers(const Report& report) {
  fmt::print("\n{:>5}{:>10}{:>9}{:>6}{:>8}{:>6}{:>10}{:>6}{:>11}{:>9}{:>12}{:>11}\n", "layer", "max/mean", "entropy", "idle", "50 %", "80 %",
             "reuse", "90 %", "repeated", "chance", "next layer", "elsewhere");
  const auto distance = [](int of) { return of < 0 ? std::string("-") : fmt::format("{}", of); };
  for (const LayerReport& l : report.layers) {
    fmt::print("{:>5}{:>10.2f}{:>9.3f}{:>6}{:>8}{:>6}{:>10}{:>6}{:>9.1f} %{:>7.1f} %{:>12}{:>11}\n", l.number, l.balance.max_over_mean,
               l.balance.entropy, l.balance.idle, l.half_set, l.most_set, distance(l.reuse.quantile(0.5)), distance(l.reuse.quantile(0.9)),
               100 * l.repetition.share, 100 * l.repetition.by_chance, l.to_next ? fmt::format("{:.3f} bit", l.to_next->bits) : "",
               l.to_next ? fmt::format("{:.3f}", l.to_next->bits_elsewhere) : "");
  }
  fmt::print("50 %, 80 %: experts that have so much of the visits. reuse, 90 %: other experts that a sequence visits before it comes\n"
             "back to one, median and 90 % of visits. repeated: visits of experts that the token before visited. next layer: what its\n"
             "choice has in common with this one's; elsewhere: with that of a token half the sequence away\n");
}

void print_consistency(const Report& report) {
  fmt::print("\nlocal consistency: the best fixed experts for a segment of tokens (SRP), and the best hit rate of a cache that knows\n"
             "so many tokens (SCH, mean of layers)\n{:>8}{:>8}{:>10}   cache of", "tokens", "SRP", "experts");
  for (size_t size = 0; size < report.slots.size(); ++size) fmt::print("{:>12}", fmt::format("{} ({:g}x)", report.slots[size], report.cache_sizes[size]));
  fmt::print("\n");
  for (size_t s = 0; s < report.segments.size(); ++s) {
    const auto& [srp, experts] = report.routing[s];
    const bool is_none = experts == 0;  // no sequence is as long
    fmt::print("{:>8}{:>8}{:>10}           ", report.segments[s], is_none ? "-" : fmt::format("{:.3f}", srp), is_none ? "-" : fmt::format("{:.2f}x", experts));
    for (size_t size = 0; size < report.slots.size(); ++size) fmt::print("{:>10.1f} %", 100 * report.cache_rate(s, size));
    fmt::print("\n");
  }
}

void print_pairs(const Report& report, size_t most) {
  struct Found {
    const LayerReport* layer;
    trace::CoActivation::Pair pair;
  };
  std::vector<Found> all;
  for (const LayerReport& layer : report.layers) {
    if (!layer.to_next) continue;
    for (const auto& pair : layer.to_next->strongest) all.push_back({&layer, pair});
  }
  std::stable_sort(all.begin(), all.end(), [](const Found& a, const Found& b) { return a.pair.share - a.pair.by_chance > b.pair.share - b.pair.by_chance; });
  if (all.empty()) return;
  fmt::print("\nexperts that go together most\n");
  for (size_t i = 0; i < std::min(most, all.size()); ++i) {
    const auto& [layer, pair] = all[i];
    const size_t next = static_cast<size_t>(layer - report.layers.data()) + 1;
    fmt::print("  layer {} expert {} -> layer {} expert {}: {:.1f} % of {}'s tokens, {:.1f} % of all\n", layer->number, pair.expert,
               report.layers[next].number, pair.next, 100 * pair.share, pair.expert, 100 * pair.by_chance);
  }
}

void print_domains(const Report& report) {
  if (report.domain_pairs.empty()) return;
  fmt::print("\nhow far the loads of two domains are apart (Jensen-Shannon divergence, bits: 0 the same, 1 nothing in common; mean of layers)\n");
  for (const auto& pair : report.domain_pairs) fmt::print("  {:<20} {:<20} {:.4f}\n", shown(pair.one), shown(pair.other), pair.bits);
}

void print_tables(const Report& report, size_t steps) {
  const trace::TraceHeader& header = report.header;
  fmt::print("{}: {} of {} layers with {} experts, {} a token\n{} steps, {} tokens, {} sequences;", header.model, header.sparse_layers.size(),
             header.num_layers, header.num_experts, header.experts_per_token, steps, report.tokens, report.sequences);
  const char* separator = " ";
  for (const auto& [name, tokens] : report.tokens_by_domain) {
    fmt::print("{}{} {}", separator, shown(name), tokens);
    separator = ", ";
  }
  fmt::print("\n");
  print_layers(report);
  print_consistency(report);
  print_pairs(report, 8);
  print_domains(report);
}

}  // namespace

int trace_report(int argc, char** argv) {
  std::string path, plot;
  size_t most_tokens = 0;
  int threads = 0;
  bool json = false;
  trace::ReportOptions options;
  CLI::App app(kHelp, "moiety trace report");
  app.add_option("FILE", path, "a trace")->required();
  app.add_option("--tokens", most_tokens, "look no further than at the step with this token (0: all); a visit takes two bytes of memory")
      ->capture_default_str();
  app.add_option("--segments", options.segments, "tokens of a segment, for SRP and SCH")->delimiter(',')->capture_default_str()->check(CLI::Range(1, 1 << 20));
  app.add_option("--cache", options.cache_sizes, "sizes of caches, times the experts of a token")->delimiter(',')->capture_default_str()->check(CLI::Range(0.01, 1000.0));
  app.add_option("--threads", threads, "threads to compute with (default: all cores)")->check(CLI::Range(1, 1024));
  app.add_flag("--json", json, "one JSON object");
  app.add_option("--plot", plot, "draw the load of layers and experts, and hit rates of caches, into this SVG file");
  if (const auto status = parse(app, argc, argv)) return *status;

  const Read read = read_trace(path, most_tokens);
  ThreadPool pool(thread_count(threads));
  const Report report = trace::make_report(read.header, read.runs.runs(), options, pool);
  if (!plot.empty()) write_file(plot, draw_trace_chart(fmt::format("{}: {} tokens", read.header.model, report.tokens), report));
  json ? print_json(report, read.steps) : print_tables(report, read.steps);
  return 0;
}

}  // namespace moiety::cli
