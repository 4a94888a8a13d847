// Many requests at once through one model: a thread that runs step after step, each of them some tokens of some sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/file.h"
#include "engine/request.h"
#include "model/kv_cache.h"
#include "model/transformer.h"
#include "trace/trace_recorder.h"

namespace moiety::engine {

struct EngineOptions {
  size_t context = 0;          // tokens of a sequence at most; 0: what the model's positions allow
  size_t max_running = 16;     // sequences at a time
  size_t step_tokens = 0;      // of a step at most; 0: what suits the model (Transformer::prompt_chunk)
  size_t cache_tokens = 0;     // whose keys and values are kept, of all sequences together; 0: max_running * 2048, or the context
  kernel::KvType kv = kernel::KvType::F32;
  bool share_prefixes = true;  // what one prompt has computed another needn't
  bool speculate = true;
  trace::TraceRecorder* trace = nullptr;
};

struct EngineStatistics {
  size_t running = 0, waiting = 0;
  size_t cache_tokens = 0, cache_tokens_used = 0, cache_tokens_shared = 0;  // room for; of running sequences; kept for others
  // Since the start:
  uint64_t requests = 0, preemptions = 0, steps = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0, drafted = 0, accepted = 0;
  double busy_seconds = 0;  // in steps
  double idle_seconds = 0;  // between steps, while there was something to do
  // Of the last seconds:
  double new_tokens_per_second = 0, prompt_tokens_per_second = 0;
  // Experts that are read from the disk; all 0 if they stay in memory.
  uint64_t expert_hits = 0, expert_misses = 0, expert_bytes_read = 0;
  size_t expert_slots = 0;
  // Visits by layer and expert, fading: half after some thousand tokens. [layers][experts]; a layer without experts has none.
  std::vector<std::vector<float>> load_LE;
};

class Engine {
 public:
  // `transformer` must outlive it and be left to it alone.
  Engine(model::Transformer& transformer, const EngineOptions& options);
  // Requests that are not through end as cancelled.
  ~Engine();

  const EngineOptions& options() const;  // with what was 0 filled in
  const spec::ModelSpec& spec() const;

  // All that follow may be called by any thread.

  // Throws Error(Input) for a request that can't ever run (an empty prompt, ids outside the vocabulary, longer than the
  // context, …). The listener is told everything else; it is kept until on_end.
  uint64_t submit(Request request, std::shared_ptr<Listener> listener);
  // The listener's on_end comes soon, as cancelled. Nothing happens if it is through.
  void cancel(uint64_t id);

  EngineStatistics statistics() const;
  // Of a request that runs, or was one of the last hundred: visits by layer and expert so far. Empty if there is none.
  std::vector<std::vector<uint32_t>> visits_of(uint64_t id) const;

  // Writes what is kept for prompts to come, and reads it again, in another process too; a file of another model, or of other
  // options, is refused by Error(Input), a broken one as well. To be called while nothing runs.
  void save_prompts(const fs::path& file);
  void load_prompts(const fs::path& file);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moiety::engine
