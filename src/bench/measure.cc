#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "base/system_memory.h"
#include "bench/median.h"

namespace moiety::bench {
namespace {

using model::Chunk;
using model::KvCache;
using model::Transformer;

template <class Value>
double median_of_rounds(const Result& result, const Value& value) {
  std::vector<double> values;
  for (size_t round = 0; round < result.seconds.size(); ++round) values.push_back(value(round));
  return median(std::move(values));
}

// A function of the sequence and where in it they begin.
std::vector<int32_t> random_tokens(const spec::ModelSpec& spec, size_t sequence, size_t from, size_t count) {
  Random random(1, sequence, from);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size)));
  return tokens;
}

// Caches for every depth that some case asks for, filled up to it: all with the same tokens, computed once.
class Sequences {
 public:
  Sequences(Transformer& transformer, const std::vector<Case>& cases, const MeasureOptions& options);

  // Runs the case's sequences from their depth on; returns the seconds.
  double run(const Case& run, WorkCounter* counter);

 private:
  void fill(KvCache& cache, size_t depth);
  void add_done(size_t tokens);

  Transformer& transformer_;
  const MeasureOptions& options_;
  size_t done_ = 0, all_ = 0;  // tokens
  std::map<size_t, std::vector<KvCache>> by_depth_;
};

Sequences::Sequences(Transformer& transformer, const std::vector<Case>& cases, const MeasureOptions& options)
    : transformer_(transformer), options_(options) {
  const spec::ModelSpec& spec = transformer.spec();
  struct Most {
    size_t sequences = 0, tokens = 0;
  };
  std::map<size_t, Most> most_by_depth;
  for (const Case& run : cases) {
    require(run.sequences > 0 && run.tokens > 0, "a measurement of no tokens");
    require(run.depth + run.tokens <= static_cast<size_t>(spec.max_positions),
            "{} tokens at depth {} do not fit the model's context of {}", run.tokens, run.depth, spec.max_positions);
    Most& most = most_by_depth[run.depth];
    most = {std::max(most.sequences, run.sequences), std::max(most.tokens, run.tokens)};
    all_ += static_cast<size_t>(options.rounds + 1) * run.sequences * run.tokens;
  }
  double cache_bytes = 0;
  for (const auto& [depth, most] : most_by_depth) {
    all_ += depth;
    cache_bytes += static_cast<double>(most.sequences * (depth + most.tokens)) * spec.num_layers *
                   cache_bytes_per_token(spec.attention, options.kv);
  }
  const double free = static_cast<double>(available_memory());
  require(cache_bytes < free, "keys and values of these depths and batches need {:.1f} GB, of which {:.1f} are free",
          cache_bytes / 1e9, free / 1e9);
  for (const auto& [depth, most] : most_by_depth) {
    std::vector<KvCache>& caches = by_depth_[depth];
    for (size_t s = 0; s < most.sequences; ++s) {
      caches.emplace_back(spec, model::KvOptions{depth + most.tokens, options.kv, depth});
      s == 0 ? fill(caches[0], depth) : caches[s].copy_from(caches[0]);
    }
  }
}

void Sequences::fill(KvCache& cache, size_t depth) {
  const size_t step = transformer_.prompt_chunk(depth);
  for (size_t at = 0; at < depth; at += step) {
    const auto tokens = random_tokens(transformer_.spec(), 0, at, std::min(step, depth - at));
    const Chunk chunk{&cache, tokens};
    transformer_.forward({&chunk, 1}, Transformer::LogitsOf::LastTokens);
    add_done(tokens.size());
  }
}

void Sequences::add_done(size_t tokens) {
  done_ += tokens;
  if (options_.progress) options_.progress(done_, all_);
}

double Sequences::run(const Case& run, WorkCounter* counter) {
  std::vector<KvCache>& caches = by_depth_.at(run.depth);
  const bool prefill = run.phase == Phase::Prefill;
  for (size_t s = 0; s < run.sequences; ++s) caches[s].start_prompt(run.depth, run.depth + (prefill ? run.tokens : 0));
  std::vector<std::vector<int32_t>> tokens;
  for (size_t s = 0; s < run.sequences; ++s) tokens.push_back(random_tokens(transformer_.spec(), s, run.depth, run.tokens));

  trace::TraceRecorder* const trace = counter != nullptr ? options_.trace : nullptr;
  model::RoutingObserver observe;
  if (counter != nullptr) {
    observe = [&](int layer, const moe::Routing& routing) {
      counter->add_routing(layer, routing);
      if (trace != nullptr) trace->add(layer, routing);
    };
  }
  std::vector<trace::Part> parts;
  for (size_t s = 0; trace != nullptr && s < run.sequences; ++s) {
    parts.push_back({.sequence = trace->new_sequence(), .domain = prefill ? "prefill" : "decode"});
  }
  const size_t step = prefill ? transformer_.prompt_chunk(run.tokens) : 1;
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < run.tokens; at += step) {
    std::vector<Chunk> chunks;
    for (size_t s = 0; s < run.sequences; ++s) {
      chunks.push_back({&caches[s], std::span(tokens[s]).subspan(at, std::min(step, run.tokens - at))});
    }
    if (counter != nullptr) counter->add_step(chunks);
    for (size_t s = 0; s < parts.size(); ++s) {
      parts[s].first_position = run.depth + at;
      parts[s].tokens = static_cast<int>(chunks[s].tokens.size());
    }
    if (trace != nullptr) trace->begin(parts);
    transformer_.forward(chunks, Transformer::LogitsOf::LastTokens, observe);
    if (trace != nullptr) trace->end();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  add_done(run.sequences * run.tokens);
  return seconds;
}

double sum(const std::array<double, kUnits>& operations) {
  double all = 0;
  for (const double of_unit : operations) all += of_unit;
  return all;
}

}  // namespace

double Result::tokens_per_second() const {
  return median_of_rounds(*this, [&](size_t round) { return tokens() / seconds[round]; });
}
double Result::bound_tokens_per_second() const {
  return median_of_rounds(*this, [&](size_t round) { return tokens() / bound_of(work, limits[round]).seconds(); });
}
double Result::share_of_bound() const {
  return median_of_rounds(*this, [&](size_t round) { return bound_of(work, limits[round]).seconds() / seconds[round]; });
}
double Result::bytes_per_second() const { return work.bytes() * tokens_per_second() / tokens(); }
double Result::operations_per_second() const { return sum(work.operations) * tokens_per_second() / tokens(); }

std::vector<Result> measure(Transformer& transformer, const kernel::Compute& compute, const std::vector<Case>& cases,
                            const MeasureOptions& options) {
  Sequences sequences(transformer, cases, options);
  LimitMeter meter(compute, options.limit_memory);
  std::vector<Result> results;
  for (const Case& run : cases) {
    WorkCounter counter(transformer.file(), compute);
    sequences.run(run, &counter);
    results.push_back({run, counter.work(), {}, {}});
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (Result& result : results) {
      result.limits.push_back(meter.measure());
      result.seconds.push_back(sequences.run(result.run, nullptr));
    }
  }
  return results;
}

}  // namespace moiety::bench
