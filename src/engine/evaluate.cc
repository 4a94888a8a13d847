#include "engine/evaluate.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/generate.h"

namespace moiety::engine {
namespace {

using model::Chunk;
using model::KvCache;
using model::Transformer;

// -log softmax(logits)[token]
double nats_of(std::span<const float> logits_V, int32_t token) {
  const float largest = *std::max_element(logits_V.begin(), logits_V.end());
  double sum = 0;
  for (const float logit : logits_V) sum += std::exp(logit - largest);
  return std::log(sum) + largest - logits_V[static_cast<size_t>(token)];
}

std::vector<int> sparse_layer_numbers(const spec::ModelSpec& spec) {
  std::vector<int> numbers;
  int next = 0;
  for (const spec::FeedForward kind : spec.feed_forward) numbers.push_back(kind == spec::FeedForward::Moe ? next++ : -1);
  return numbers;
}

// Where a window's first token stands.
struct Place {
  uint64_t sequence = 0, position = 0;
};

// Predicts tokens[first_scored...] of one window from all before them in it.
void evaluate_window(Transformer& transformer, std::span<const int32_t> window, size_t first_scored, const Place& place,
                     const std::vector<int>& sparse, const EvaluateOptions& options, const WindowObserver& observe_window,
                     Evaluation& result) {
  KvCache cache(transformer.spec(), {window.size(), options.kv, window.size()});
  const auto inputs = window.first(window.size() - 1);
  const size_t step = options.chunk == 0 ? inputs.size() : options.chunk;
  const size_t seen = first_scored - 1;  // these were predicted from, and recorded, in the window before
  Matrix<float> logits;  // of all chunks
  for (size_t at = 0; at < inputs.size(); at += step) {
    const size_t count = std::min(step, inputs.size() - at);
    const Chunk chunk{&cache, inputs.subspan(at, count), count};
    const size_t first_new = std::max(at, seen) - at;
    const bool recorded = options.trace != nullptr && first_new < chunk.tokens.size();
    if (recorded) {
      const int tokens = static_cast<int>(chunk.tokens.size() - first_new);
      options.trace->begin({{place.sequence, place.position + at + first_new, tokens}}, static_cast<int>(first_new));
    }
    const auto observe = [&](int layer, const moe::Routing& routing) {
      if (recorded) options.trace->add(layer, routing);
      for (size_t t = first_new; t < chunk.tokens.size(); ++t) {
        for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
          result.load.add(sparse[layer], routing.experts_N[n], 1);
        }
      }
    };
    Matrix<float> of_chunk = transformer.forward({&chunk, 1}, observe);
    if (recorded) options.trace->end();
    if (step >= inputs.size()) {
      logits = std::move(of_chunk);
    } else {
      if (at == 0) logits = Matrix<float>::uninitialised(inputs.size(), of_chunk.cols());
      for (size_t t = 0; t < of_chunk.rows(); ++t) std::ranges::copy(of_chunk.row(t), logits.row(at + t).begin());
    }
  }
  for (size_t t = first_scored; t < window.size(); ++t) {
    result.nats += nats_of(logits.row(t - 1), window[t]);
    ++result.tokens;
  }
  if (observe_window) observe_window({window, first_scored, logits.view()});
}

}  // namespace

double Evaluation::bits_per_byte() const { return bytes == 0 ? 0 : nats / std::log(2.0) / static_cast<double>(bytes); }
double Evaluation::perplexity() const { return tokens == 0 ? 0 : std::exp(nats / static_cast<double>(tokens)); }

Evaluation evaluate(Transformer& transformer, const text::Tokenizer& tokenizer,
                    std::span<const std::string_view> documents, const EvaluateOptions& options,
                    const std::function<void(size_t)>& progress, const WindowObserver& observe) {
  const spec::ModelSpec& spec = transformer.spec();
  const size_t window = std::clamp<size_t>(options.window, 2, std::max(2, spec.max_positions));
  const size_t step = std::max<size_t>(1, window / 2);
  const std::vector<int> sparse = sparse_layer_numbers(spec);
  Evaluation result;
  result.load = moe::Load(spec.moe_layers(), spec.moe.router.num_experts);

  for (const std::string_view document : documents) {
    const std::vector<int32_t> tokens = document_tokens(tokenizer, document, spec);
    const uint64_t sequence = options.trace != nullptr ? options.trace->new_sequence() : 0;
    for (size_t scored = 1; scored < tokens.size();) {
      const size_t begin = scored == 1 ? 0 : scored - std::min(scored, window - step);
      const size_t end = std::min(tokens.size(), begin + window);
      evaluate_window(transformer, std::span(tokens).subspan(begin, end - begin), scored - begin, {sequence, begin}, sparse, options,
                      observe, result);
      scored = end;
    }
    result.bytes += document.size();
    if (progress) progress(result.bytes);
    if (options.most_tokens > 0 && result.tokens >= options.most_tokens) break;
  }
  return result;
}

}  // namespace moiety::engine
