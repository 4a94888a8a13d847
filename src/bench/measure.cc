#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "base/error.h"
#include "base/system_memory.h"
#include "bench/median.h"

namespace moiety::bench {
namespace {

using model::Chunk;
using model::KvCache;
using model::Transformer;

// Of the tokens that caches hold before a run.
constexpr TokenPlace kContext{.number = (1 << 20) - 1};
constexpr double kDiskSeconds = 0.5;  // to measure a disk for

store::StoreStatistics statistics_of(const Transformer& transformer) {
  const store::StoreStatistics* statistics = transformer.expert_statistics();
  return statistics != nullptr ? *statistics : store::StoreStatistics{};
}

// Caches for every depth that some case asks for, filled up to it: all with the same tokens, computed once.
class Sequences {
 public:
  Sequences(Transformer& transformer, const kernel::Compute& compute, const std::vector<Case>& cases,
            const MeasureOptions& options);

  // Runs a case's sequences from their depth on.
  Round run(size_t number, size_t round);

 private:
  void fill(KvCache& cache, size_t depth);
  void add_done(size_t tokens);

  Transformer& transformer_;
  const kernel::Compute& compute_;
  const std::vector<Case>& cases_;
  const MeasureOptions& options_;
  size_t done_ = 0, all_ = 0;  // tokens
  std::map<size_t, std::vector<KvCache>> by_depth_;
};

Sequences::Sequences(Transformer& transformer, const kernel::Compute& compute, const std::vector<Case>& cases,
                     const MeasureOptions& options)
    : transformer_(transformer), compute_(compute), cases_(cases), options_(options) {
  const spec::ModelSpec& spec = transformer.spec();
  const double free = static_cast<double>(available_memory());
  const auto require_room = [&](double bytes) {
    require(bytes < free, "keys and values of these depths and batches need {:.1f} GB, of which {:.1f} are free", bytes / 1e9, free / 1e9);
  };
  const auto cache_bytes = [&](size_t capacity) { return static_cast<double>(KvCache::bytes(spec, {capacity, options.kv})); };
  for (const Case& run : cases) {
    require(run.sequences > 0 && run.tokens > 0, "a measurement of no tokens");
    require(run.depth + run.tokens <= static_cast<size_t>(spec.max_positions),
            "{} tokens at depth {} do not fit the model's context of {}", run.tokens, run.depth, spec.max_positions);
    require_room(static_cast<double>(run.sequences) * cache_bytes(run.depth + run.tokens));
    all_ += static_cast<size_t>(options.rounds + 1) * run.sequences * run.tokens;
  }
  const auto capacities = cache_capacities(cases);
  double bytes = 0;
  for (const auto& [depth, capacity_S] : capacities) {
    for (const size_t capacity : capacity_S) bytes += cache_bytes(capacity);
  }
  require_room(bytes);
  for (const auto& [depth, capacity_S] : capacities) {
    all_ += depth;
    std::vector<KvCache>& caches = by_depth_[depth];
    for (const size_t capacity : capacity_S) {
      caches.emplace_back(spec, model::KvOptions{capacity, options.kv, depth});
      if (depth == 0) continue;
      caches.size() == 1 ? fill(caches[0], depth) : caches.back().copy_from(caches[0]);
    }
  }
}

void Sequences::fill(KvCache& cache, size_t depth) {
  const size_t step = transformer_.prompt_chunk(depth);
  const auto tokens = draw_tokens(options_.tokens, transformer_.spec().vocab_size, kContext, depth);
  for (size_t at = 0; at < depth; at += step) {
    const Chunk chunk{&cache, std::span(tokens).subspan(at, std::min(step, depth - at))};
    transformer_.forward({&chunk, 1});
    add_done(chunk.tokens.size());
  }
}

void Sequences::add_done(size_t tokens) {
  done_ += tokens;
  if (options_.progress) options_.progress(done_, all_);
}

Round Sequences::run(size_t number, size_t round) {
  const Case& run = cases_[number];
  std::vector<KvCache>& caches = by_depth_.at(run.depth);
  const bool prefill = run.phase == Phase::Prefill;
  for (size_t s = 0; s < run.sequences; ++s) caches[s].start_prompt(run.depth, run.depth + (prefill ? run.tokens : 0));
  std::vector<std::vector<int32_t>> tokens;
  for (size_t s = 0; s < run.sequences; ++s) {
    tokens.push_back(tokens_of(transformer_.spec(), cases_, options_, {round, number, s}));
  }

  WorkCounter counter(transformer_.file(), compute_);
  trace::TraceRecorder* const trace = round == 0 ? options_.trace : nullptr;
  const auto observe = [&](int layer, const moe::Routing& routing) {
    counter.add_routing(layer, routing);
    if (trace != nullptr) trace->add(layer, routing);
  };
  std::vector<trace::Part> parts;
  for (size_t s = 0; trace != nullptr && s < run.sequences; ++s) {
    parts.push_back({.sequence = trace->new_sequence(), .domain = prefill ? "prefill" : "decode"});
  }
  const size_t step = prefill ? transformer_.prompt_chunk(run.tokens) : 1;
  const store::StoreStatistics before = statistics_of(transformer_);
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < run.tokens; at += step) {
    std::vector<Chunk> chunks;
    for (size_t s = 0; s < run.sequences; ++s) {
      chunks.push_back({&caches[s], std::span(tokens[s]).subspan(at, std::min(step, run.tokens - at))});
    }
    counter.add_step(chunks);
    for (size_t s = 0; s < parts.size(); ++s) {
      parts[s].first_position = run.depth + at;
      parts[s].tokens = static_cast<int>(chunks[s].tokens.size());
    }
    if (trace != nullptr) trace->begin(parts);
    transformer_.forward(chunks, observe);
    if (trace != nullptr) trace->end();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  add_done(run.sequences * run.tokens);
  Round done{.seconds = seconds, .limits = {}, .work = counter.work(), .experts = statistics_of(transformer_) - before};
  done.work.disk_bytes = static_cast<double>(done.experts.bytes_read);
  return done;
}

// Bytes a second that experts come with; 0 if all are in memory.
double disk_bandwidth(Transformer& transformer, const MeasureOptions& options) {
  if (transformer.expert_statistics() == nullptr) return 0;
  return options.disk_bandwidth > 0 ? options.disk_bandwidth : transformer.streamed_experts().store().measure_read_rate(kDiskSeconds);
}

double sum(const std::array<double, kUnits>& operations) {
  double all = 0;
  for (const double of_unit : operations) all += of_unit;
  return all;
}

}  // namespace

std::map<size_t, std::vector<size_t>> cache_capacities(const std::vector<Case>& cases) {
  std::map<size_t, std::vector<size_t>> capacities;
  for (const Case& run : cases) {
    std::vector<size_t>& capacity_S = capacities[run.depth];
    capacity_S.resize(std::max(capacity_S.size(), run.sequences));
    for (size_t s = 0; s < run.sequences; ++s) capacity_S[s] = std::max(capacity_S[s], run.depth + run.tokens);
  }
  for (auto& [depth, capacity_S] : capacities) {
    // A cache is filled by copying another of the same capacity.
    if (depth > 0) std::ranges::fill(capacity_S, *std::ranges::max_element(capacity_S));
  }
  return capacities;
}

double Result::median_of(const std::function<double(const Round&)>& value) const {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(value(round));
  return median(std::move(values));
}
double Result::tokens_per_second() const {
  return median_of([&](const Round& round) { return tokens() / round.seconds; });
}
double Result::bound_tokens_per_second() const {
  return median_of([&](const Round& round) { return tokens() / bound_of(round.work, round.limits).seconds(); });
}
double Result::share_of_bound() const {
  return median_of([](const Round& round) { return bound_of(round.work, round.limits).seconds() / round.seconds; });
}
double Result::bytes_per_second() const {
  return median_of([](const Round& round) { return round.work.bytes() / round.seconds; });
}
double Result::operations_per_second() const {
  return median_of([](const Round& round) { return sum(round.work.operations) / round.seconds; });
}
store::StoreStatistics Result::experts() const {
  store::StoreStatistics all;
  for (const Round& round : rounds) {
    const store::StoreStatistics& s = round.experts;
    all.hits += s.hits;
    all.misses += s.misses;
    all.bytes_read += s.bytes_read;
    all.expected += s.expected;
    all.expected_right += s.expected_right;
    all.expected_missing += s.expected_missing;
    all.read_ahead += s.read_ahead;
    all.bytes_wasted += s.bytes_wasted;
    all.seconds_waited += s.seconds_waited;
    all.upgrades += s.upgrades;
    all.bytes_spared += s.bytes_spared;
  }
  return all;
}

std::vector<int32_t> tokens_of(const spec::ModelSpec& spec, const std::vector<Case>& cases, const MeasureOptions& options,
                               const TokenPlace& place) {
  TokenPlace from = place;
  if (!options.new_tokens) from.round = 0;
  return draw_tokens(options.tokens, spec.vocab_size, from, cases[place.number].tokens);
}

std::vector<Result> measure(Transformer& transformer, const kernel::Compute& compute, const std::vector<Case>& cases,
                            const MeasureOptions& options) {
  Sequences sequences(transformer, compute, cases, options);
  LimitMeter meter(compute, options.limit_memory);
  std::vector<Result> results;
  for (size_t number = 0; number < cases.size(); ++number) {
    sequences.run(number, 0);
    results.push_back({cases[number], {}});
  }
  for (size_t round = 1; round <= static_cast<size_t>(options.rounds); ++round) {
    for (size_t number = 0; number < cases.size(); ++number) {
      Limits limits = meter.measure();
      limits.disk_bandwidth = disk_bandwidth(transformer, options);
      Round& done = results[number].rounds.emplace_back(sequences.run(number, round));
      done.limits = limits;
    }
  }
  return results;
}

}  // namespace moiety::bench
