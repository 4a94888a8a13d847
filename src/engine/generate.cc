#include "engine/generate.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"

namespace moiety::engine {
namespace {

using Clock = std::chrono::steady_clock;
using model::Chunk;
using model::KvCache;
using model::KvOptions;
using model::Transformer;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One sequence on its way through a model.
struct Sequence {
  Transformer& transformer;
  KvCache& cache;
  trace::TraceRecorder* trace = nullptr;
  uint64_t number = 0;  // in the trace

  // Logits [1, V] after these next tokens.
  Matrix<float> feed(std::span<const int32_t> tokens) {
    const Chunk chunk{&cache, tokens};
    if (trace == nullptr) return transformer.forward({&chunk, 1});
    trace->begin({{number, cache.length(), static_cast<int>(tokens.size())}});
    Matrix<float> logits = transformer.forward({&chunk, 1}, trace->observer());
    trace->end();
    return logits;
  }
};

// Logits [1, V] after the last token of the prompt.
Matrix<float> prefill(Sequence& sequence, std::span<const int32_t> prompt, size_t chunk) {
  Matrix<float> logits;
  for (size_t at = 0; at < prompt.size(); at += chunk) {
    logits = sequence.feed(prompt.subspan(at, std::min(chunk, prompt.size() - at)));
  }
  return logits;
}

// Makes room for `capacity` tokens and keeps what the cache shares with the prompt, but for its last token, whose logits are
// wanted. Returns how many tokens that is.
size_t prepare(PromptCache& cached, const spec::ModelSpec& spec, std::span<const int32_t> prompt, const KvOptions& wanted) {
  if (!cached.cache || cached.cache->capacity() < wanted.capacity || cached.cache->options().type != wanted.type) {
    cached.cache.emplace(spec, wanted);
    cached.tokens.clear();
  }
  const size_t most = std::min(cached.tokens.size(), prompt.size() - 1);
  const auto differs = std::mismatch(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(most), cached.tokens.begin());
  const auto shared = static_cast<size_t>(differs.first - prompt.begin());
  cached.tokens.clear();
  return cached.cache->start_prompt(shared, prompt.size());
}

bool contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

}  // namespace

void check_tokens(std::span<const int32_t> tokens, const spec::ModelSpec& spec) {
  for (const int32_t token : tokens) {
    require(token >= 0 && token < spec.vocab_size, "token {} is not in the model's vocabulary of {}", token,
            spec.vocab_size);
  }
}

int32_t start_token(const spec::ModelSpec& spec) {
  if (spec.bos_token >= 0) return spec.bos_token;
  return spec.eos_tokens.empty() ? 0 : spec.eos_tokens[0];
}

std::vector<int32_t> document_tokens(const text::Tokenizer& tokenizer, std::string_view document, const spec::ModelSpec& spec) {
  std::vector<int32_t> tokens = {start_token(spec)};
  const auto encoded = tokenizer.encode(document, false);
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  check_tokens(tokens, spec);
  return tokens;
}

Generated generate(Transformer& transformer, std::span<const int32_t> prompt, const GenerateOptions& options,
                   const TokenCallback& on_token, PromptCache* reuse) {
  const spec::ModelSpec& spec = transformer.spec();
  const size_t context = static_cast<size_t>(spec.max_positions);
  check(options.sampling);
  check_tokens(prompt, spec);
  require(!prompt.empty(), "the prompt has no tokens; give at least one");
  require(prompt.size() <= context, "the prompt has {} tokens, the model's context holds {}", prompt.size(), context);

  PromptCache own;
  PromptCache& cached = reuse != nullptr ? *reuse : own;
  const size_t capacity = std::min(context, prompt.size() + std::min(options.max_new_tokens, context));
  const size_t reused = prepare(cached, spec, prompt, {capacity, options.kv, prompt.size()});
  KvCache& cache = *cached.cache;
  const auto start = Clock::now();
  Sequence sequence{transformer, cache, options.trace, options.trace != nullptr ? options.trace->new_sequence() : 0};
  Matrix<float> logits = prefill(sequence, prompt.subspan(reused), transformer.prompt_chunk(prompt.size() - reused));
  Generated out{.reused_tokens = reused, .prefill_seconds = seconds_since(start)};

  const auto decode_start = Clock::now();
  while (out.tokens.size() < options.max_new_tokens) {
    const int32_t token = sample(options.sampling, logits.flat(), prompt, out.tokens);
    if (contains(options.stop_tokens, token)) {
      out.stop = Generated::Stop::StopToken;
      out.stop_token = token;
      break;
    }
    out.tokens.push_back(token);
    if (on_token && !on_token(token)) {
      out.stop = Generated::Stop::Caller;
      break;
    }
    if (out.tokens.size() == options.max_new_tokens) break;
    if (cache.length() == context) {
      out.stop = Generated::Stop::ContextFull;
      break;
    }
    logits = sequence.feed(std::span(&out.tokens.back(), 1));
  }
  out.decode_seconds = seconds_since(decode_start);

  cached.tokens.assign(prompt.begin(), prompt.end());
  cached.tokens.insert(cached.tokens.end(), out.tokens.begin(), out.tokens.end());
  cached.tokens.resize(cache.length());
  return out;
}

}  // namespace moiety::engine
