// How well a model predicts a text, and which experts it used.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "model/transformer.h"
#include "moe/load.h"
#include "text/tokenizer.h"
#include "trace/trace_recorder.h"

namespace moiety::engine {

struct Evaluation {
  size_t tokens = 0;  // predicted
  size_t bytes = 0;   // of the text
  double nats = 0;    // -log probability of all tokens
  moe::Load load;     // visits by sparse layer (counted from 0) and expert

  double bits_per_byte() const;
  double perplexity() const;  // per token
};

struct EvaluateOptions {
  size_t window = 512;  // tokens that the model sees at once, at most its context
  size_t chunk = 0;     // of these that are computed at once; 0: all
  size_t most_tokens = 0;  // stop after so many; 0: all
  kernel::KvType kv = kernel::KvType::F32;  // what keys and values are kept in
  trace::TraceRecorder* trace = nullptr;    // records each document as a sequence, each of its tokens once
};

// Tokens that the model saw at once; tokens[first_scored] and what follows were predicted, each from all before it. Row t of
// the logits is the prediction of token t + 1.
struct Window {
  std::span<const int32_t> tokens;
  size_t first_scored;
  MatrixView<const float> logits_TV;
};
using WindowObserver = std::function<void(const Window&)>;

// Each document is read from its beginning, after the token that starts texts (bos, else the first end-of-text token),
// without a view of the others. A document longer than the window is read in windows that overlap by half, each token
// being predicted once, from at least half a window. `progress` is told the bytes done,
// `observe` of every window in turn.
Evaluation evaluate(model::Transformer& transformer, const text::Tokenizer& tokenizer,
                    std::span<const std::string_view> documents, const EvaluateOptions& options,
                    const std::function<void(size_t bytes)>& progress = {}, const WindowObserver& observe = {});

}  // namespace moiety::engine
