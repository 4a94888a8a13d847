#include "cli/bench_report.h"

#include <algorithm>

#include "base/json.h"
#include "base/progress.h"
#include "cli/expert_report.h"

namespace moiety::cli {
namespace {

using bench::Limits;
using bench::Phase;
using bench::Result;
using bench::Unit;

Limits limits_of(const std::vector<Result>& results) {
  std::vector<Limits> all;
  for (const Result& result : results) {
    for (const bench::Round& round : result.rounds) all.push_back(round.limits);
  }
  return bench::median(all);
}

// What takes longest: in the last round, by the middle of the limits.
std::string binding(const Result& result, const Limits& limits) {
  const bench::Bound bound = bound_of(result.rounds.back().work, limits);
  return bound.is_disk() ? "disk" : bound.is_memory() ? "memory" : bench::name(bound.unit);
}

double experts_per_layer(const Result& result) {
  return result.median_of([](const bench::Round& round) {
    return round.work.sparse_layers > 0 ? round.work.experts / round.work.sparse_layers : 0;
  });
}
double disk_bytes_per_second(const Result& result) {
  return result.median_of([](const bench::Round& round) { return round.work.disk_bytes / round.seconds; });
}
double bytes_per_step(const Result& result) {
  return result.median_of([](const bench::Round& round) { return round.work.bytes() / round.work.steps; });
}

// Sums over the measured rounds.
Json experts_json(const Result& result) {
  const store::StoreStatistics s = result.experts();
  const double tokens = result.tokens() * static_cast<double>(result.rounds.size());
  return {{"hits", s.hits},
          {"misses", s.misses},
          {"hit_rate", static_cast<double>(s.hits) / static_cast<double>(std::max<uint64_t>(1, s.hits + s.misses))},
          {"bytes_read", s.bytes_read},
          {"bytes_per_token", static_cast<double>(s.bytes_read) / tokens},
          {"seconds_waited", s.seconds_waited},
          {"expected", s.expected},
          {"expected_right", s.expected_right},
          {"expected_and_missing", s.expected_missing},
          {"read_ahead", s.read_ahead},
          {"bytes_wasted", s.bytes_wasted},
          {"upgrades", s.upgrades},
          {"bytes_spared", s.bytes_spared}};
}

Json to_json(const Result& result, const Limits& limits) {
  std::vector<double> seconds;
  for (const bench::Round& round : result.rounds) seconds.push_back(round.seconds);
  Json json = {{"phase", result.run.phase == Phase::Prefill ? "prefill" : "decode"},
               {"batch", result.run.sequences},
               {"tokens", result.run.tokens},
               {"depth", result.run.depth},
               {"tokens_per_second", result.tokens_per_second()},
               {"seconds", seconds},
               {"bytes_per_step", bytes_per_step(result)},
               {"weight_bytes_per_step", result.median_of([](const bench::Round& round) { return round.work.weight_bytes / round.work.steps; })},
               {"bytes_per_second", result.bytes_per_second()},
               {"operations_per_second", result.operations_per_second()},
               {"experts_per_layer", experts_per_layer(result)},
               {"bound", binding(result, limits)},
               {"bound_tokens_per_second", result.bound_tokens_per_second()},
               {"share_of_bound", result.share_of_bound()}};
  if (limits.disk_bandwidth > 0) json["experts"] = experts_json(result);
  return json;
}

Json to_json(const Limits& limits) {
  Json json = {{"read_bytes_per_second", limits.read_bandwidth}};
  for (size_t unit = 0; unit < bench::kUnits; ++unit) {
    json[fmt::format("{}_operations_per_second", bench::name(static_cast<Unit>(unit)))] = limits.operations[unit];
  }
  if (limits.disk_bandwidth > 0) json["disk_bytes_per_second"] = limits.disk_bandwidth;
  return json;
}

// Of a result whose experts are streamed.
std::string experts_text(const Result& result) {
  const store::StoreStatistics s = result.experts();
  const double rounds = static_cast<double>(result.rounds.size());
  return fmt::format("{:.1f} % of visits found their expert in memory; {}B were read a token, and {:.2f} s a round spent waiting for nothing else",
                     100.0 * static_cast<double>(s.hits) / static_cast<double>(std::max<uint64_t>(1, s.hits + s.misses)),
                     short_number(static_cast<double>(s.bytes_read) / result.tokens() / rounds), s.seconds_waited / rounds);
}

std::string title_of(const Result& result) {
  const bool prefill = result.run.phase == Phase::Prefill;
  return prefill ? fmt::format("prefill {}", result.run.tokens) : fmt::format("decode, batch {}", result.run.sequences);
}

}  // namespace

std::string bench_json(const OpenModel& model, const std::string& title, const std::vector<Result>& results) {
  const Limits limits = limits_of(results);
  Json list = Json::array();
  for (const Result& result : results) list.push_back(to_json(result, limits));
  Json json = {{"model", title},
               {"kernels", model.compute.kernels.name},
               {"threads", model.threads.size()},
               {"rounds", results.front().rounds.size()},
               {"parameters", model.file.spec().parameters()},
               {"active_parameters", model.file.spec().active_parameters()},
               {"limits", to_json(limits)},
               {"results", list}};
  if (limits.disk_bandwidth > 0) json["streaming"] = streaming_json(model);
  return json.dump() + "\n";
}

std::string bench_table(const OpenModel& model, const std::string& title, const std::vector<Result>& results) {
  const spec::ModelSpec& spec = model.file.spec();
  const Limits limits = limits_of(results);
  std::string text;
  text += fmt::format("{}: {} parameters, {} active; {} kernels, {} threads, medians of {} rounds\n", title,
             short_number(static_cast<double>(spec.parameters())), short_number(static_cast<double>(spec.active_parameters())),
             model.compute.kernels.name, model.threads.size(), results.front().rounds.size());
  text += fmt::format("this machine reads {}B/s and computes", short_number(limits.read_bandwidth));
  for (size_t unit = 0; unit < bench::kUnits; ++unit) {
    text += fmt::format("{} {}op/s in {}", unit == 0 ? "" : ",", short_number(limits.operations[unit]), bench::name(static_cast<Unit>(unit)));
  }
  if (limits.disk_bandwidth > 0) text += fmt::format("; its disk gives {}B/s; {}", short_number(limits.disk_bandwidth), streaming_text(model));
  text += fmt::format("\n\n{:<20} {:>6} {:>10}  {:<26} {:>11} {:>12} {:>14}\n", "", "depth", "tokens/s", "of what binds", "read a step", "", "experts visited");
  for (const Result& result : results) {
    const std::string binds = binding(result, limits);
    const std::string share = fmt::format("{:.0f} % of {:.1f} by {}", 100 * result.share_of_bound(), result.bound_tokens_per_second(), binds);
    const std::string rate = binds == "disk"     ? fmt::format("{}B/s", short_number(disk_bytes_per_second(result)))
                             : binds == "memory" ? fmt::format("{}B/s", short_number(result.bytes_per_second()))
                                                 : fmt::format("{}op/s", short_number(result.operations_per_second()));
    const double visited = experts_per_layer(result);
    const std::string experts = visited == 0 ? "" : fmt::format("{:.1f} of {}", visited, spec.moe.router.num_experts);
    text += fmt::format("{:<20} {:>6} {:>10.1f}  {:<26} {:>10}B {:>12} {:>14}\n", title_of(result), result.run.depth, result.tokens_per_second(), share,
               short_number(bytes_per_step(result)), rate, experts);
  }
  if (limits.disk_bandwidth == 0) return text;
  text += "\n";
  for (const Result& result : results) text += fmt::format("{:<20} {:>6} {}\n", title_of(result), result.run.depth, experts_text(result));
  return text;
}

}  // namespace moiety::cli
