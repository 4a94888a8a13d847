// A request on its way: what has been said, what of it is computed, how long that took.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "engine/request.h"
#include "engine/speculation.h"
#include "model/kv_cache.h"

namespace moiety::engine {

using Clock = std::chrono::steady_clock;

struct Sequence {
  uint64_t id = 0;
  Request request;
  std::shared_ptr<Listener> listener;
  Clock::time_point submitted, started, answering;  // started: to be computed; answering: the prompt is

  std::vector<int32_t> tokens;             // the prompt and what was said after it
  std::optional<model::KvCache> cache;     // of the first of them; while it runs
  bool has_started = false;                // also if it has been put aside since
  Drafter drafter;
  std::vector<double> state_sum_D;         // of an Embed's tokens so far
  std::vector<NewToken> prompt_logprobs;   // of its tokens so far
  uint64_t trace_number = 0;
  Outcome outcome;
  bool is_through = false;  // as outcome says

  size_t prompt() const { return request.prompt.size(); }
  std::span<const int32_t> said() const { return std::span(tokens).subspan(prompt()); }
  size_t computed() const { return cache ? cache->length() : 0; }
  size_t left() const { return tokens.size() - computed(); }
  // Its last token is all that isn't computed.
  bool is_decoding() const { return tokens.size() > prompt() && left() == 1; }
  // Tokens that it can come to at most.
  size_t most_tokens(size_t context) const {
    return request.kind == Request::Kind::Embed ? prompt() : std::min(context, prompt() + std::min(context, request.max_new_tokens));
  }
};

}  // namespace moiety::engine
