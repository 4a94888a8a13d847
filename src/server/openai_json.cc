#include "server/openai_json.h"

#include <algorithm>

#include "text/utf8.h"

namespace moiety::server {
namespace {

double per(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace

OrderedJson usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.new_tokens},
          {"total_tokens", usage.prompt_tokens + usage.new_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

OrderedJson input_tokens_json(size_t tokens) { return {{"object", "response.input_tokens"}, {"input_tokens", tokens}}; }

OrderedJson timings_json(const Ending& ending) {
  const engine::Outcome& outcome = ending.outcome;
  const size_t computed = outcome.prompt_tokens - outcome.cached_tokens;
  const auto prompt_n = static_cast<double>(computed), predicted_n = static_cast<double>(outcome.new_tokens);
  const double prompt_ms = 1000 * outcome.prefill_seconds, predicted_ms = 1000 * outcome.decode_seconds;
  const double decoded_n = std::max(predicted_n - 1, 0.0);  // the first token comes out of the prompt's time
  OrderedJson json = {{"cache_n", outcome.cached_tokens},
                      {"prompt_n", computed},
                      {"prompt_ms", prompt_ms},
                      {"prompt_per_token_ms", per(prompt_ms, prompt_n)},
                      {"prompt_per_second", per(1000 * prompt_n, prompt_ms)},
                      {"predicted_n", outcome.new_tokens},
                      {"predicted_ms", predicted_ms},
                      {"predicted_per_token_ms", per(predicted_ms, decoded_n)},
                      {"predicted_per_second", per(1000 * decoded_n, predicted_ms)},
                      {"queue_ms", 1000 * outcome.queue_seconds}};
  if (outcome.drafted > 0) {
    json["draft_n"] = outcome.drafted;
    json["draft_n_accepted"] = outcome.accepted;
  }
  return json;
}

OrderedJson logprob_json(const text::Tokenizer& tokenizer, int32_t token, float logprob) {
  const std::string_view bytes = tokenizer.token_bytes(token);
  OrderedJson list = OrderedJson::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return {{"token", text::replace_invalid(bytes)}, {"logprob", logprob}, {"bytes", std::move(list)}};
}

OrderedJson logprobs_json(const text::Tokenizer& tokenizer, std::span<const ShownToken> tokens) {
  OrderedJson content = OrderedJson::array();
  for (const ShownToken& shown : tokens) {
    OrderedJson json = logprob_json(tokenizer, shown.token.token, shown.token.logprob);
    OrderedJson top = OrderedJson::array();
    for (const engine::TokenLogprob& likely : shown.token.top) top.push_back(logprob_json(tokenizer, likely.token, likely.logprob));
    json["top_logprobs"] = std::move(top);
    content.push_back(std::move(json));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

}  // namespace moiety::server
