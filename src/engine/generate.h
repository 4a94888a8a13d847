// One sequence from prompt to end.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/sampler.h"
#include "model/kv_cache.h"
#include "model/transformer.h"
#include "text/tokenizer.h"
#include "trace/trace_recorder.h"

namespace moiety::engine {

struct GenerateOptions {
  size_t max_new_tokens = 256;
  SamplingOptions sampling;
  std::vector<int32_t> stop_tokens;  // any of these ends the text; it is not part of the result
  kernel::KvType kv = kernel::KvType::F32;  // what keys and values are kept in
  trace::TraceRecorder* trace = nullptr;    // records the tokens that are computed, as a sequence of its own
};

struct Generated {
  enum class Stop { Length, StopToken, ContextFull, Caller };

  std::vector<int32_t> tokens;
  Stop stop = Stop::Length;
  int32_t stop_token = -1;   // which one it was
  size_t reused_tokens = 0;  // of the prompt, found in the cache
  double prefill_seconds = 0;  // the prompt, up to the first new token's logits
  double decode_seconds = 0;   // everything after
};

// What the last call has computed. The next one's prompt needs computing only from where it differs; the numbers are the same.
struct PromptCache {
  std::optional<model::KvCache> cache;
  std::vector<int32_t> tokens;  // that the cache holds
};

// Called with each new token as it comes; returns false to end.
using TokenCallback = std::function<bool(int32_t)>;

// Throws Error(Input) for an empty prompt, ids outside the vocabulary, or a prompt longer than the model's context.
Generated generate(model::Transformer& transformer, std::span<const int32_t> prompt, const GenerateOptions& options,
                   const TokenCallback& on_token = {}, PromptCache* reuse = nullptr);

// Throws Error(Input) unless every id is in the vocabulary.
void check_tokens(std::span<const int32_t> tokens, const spec::ModelSpec& spec);

// The token that texts start after: bos, else the first end-of-text token (documents follow each other in training).
int32_t start_token(const spec::ModelSpec& spec);

// A text from its beginning, after that token. Throws Error(Input) as check_tokens does.
std::vector<int32_t> document_tokens(const text::Tokenizer& tokenizer, std::string_view document, const spec::ModelSpec& spec);

}  // namespace moiety::engine
