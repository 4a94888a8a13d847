#include "engine/token_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "engine/distribution.h"

namespace moiety::engine {
namespace {

// The constraint is asked about the token that would come without it first: mostly it may, and then a mask of the whole vocabulary
// is not needed. What is drawn anew, from those that may come, has the probability that it would have had with the mask at once.
int32_t choose(const Sequence& sequence, std::span<const float> logits_V, std::span<const int32_t> said) {
  const Request& request = sequence.request;
  const int32_t token = sample(request.sampling, logits_V, request.prompt, said);
  if (!request.constraint || request.constraint->allows(token)) return token;
  std::vector<float> masked(logits_V.begin(), logits_V.end());
  request.constraint->mask(masked);
  const bool one_may = std::ranges::any_of(masked, [](float logit) { return logit > -std::numeric_limits<float>::infinity(); });
  require(one_may, "no token of the vocabulary goes on as the request's grammar demands");
  return sample(request.sampling, masked, request.prompt, said, 1);
}

}  // namespace

bool is_stop(const Sequence& sequence, int32_t token) {
  return std::ranges::find(sequence.request.stop_tokens, token) != sequence.request.stop_tokens.end();
}

NewToken with_logprobs(int32_t token, std::span<const float> logits_V, size_t top) {
  const Weights weights(logits_V, 1);
  const double log_sum = weights.largest() + std::log(weights.sum());
  const auto logprob = [&](int32_t v) { return static_cast<float>(logits_V[static_cast<size_t>(v)] - log_sum); };

  NewToken out{token, logprob(token), {}};
  for (const int32_t id : likeliest_of(logits_V, top)) out.top.push_back({id, logprob(id)});
  return out;
}

std::vector<NewToken> choose_tokens(const Sequence& sequence, std::span<const int32_t> drafted, MatrixView<const float> logits_RV) {
  const Request& request = sequence.request;
  std::span<const int32_t> said = sequence.said();
  std::vector<int32_t> with_drafted;  // what was said, and what of the draft has come
  std::vector<NewToken> chosen;
  for (size_t r = 0; r < logits_RV.rows(); ++r) {
    const int32_t token = choose(sequence, logits_RV.row(r), said);
    chosen.push_back(request.logprobs ? with_logprobs(token, logits_RV.row(r), request.top_logprobs) : NewToken{token, 0, {}});
    if (is_stop(sequence, token) || said.size() + 1 == request.max_new_tokens) break;
    if (request.constraint) request.constraint->accept(token);
    if (r == drafted.size() || token != drafted[r]) break;
    if (r == 0) with_drafted.assign(said.begin(), said.end());
    with_drafted.push_back(token);
    said = with_drafted;
  }
  return chosen;
}

}  // namespace moiety::engine
