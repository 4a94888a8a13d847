#include "engine/token_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

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
  const float largest = *std::ranges::max_element(logits_V);
  double sum = 0;
  for (const float logit : logits_V) sum += std::exp(double{logit} - largest);
  const double log_sum = largest + std::log(sum);
  const auto logprob = [&](int32_t v) { return static_cast<float>(logits_V[static_cast<size_t>(v)] - log_sum); };

  NewToken out{token, logprob(token), {}};
  if (top == 0) return out;
  std::vector<int32_t> ids(logits_V.size());
  for (size_t v = 0; v < ids.size(); ++v) ids[v] = static_cast<int32_t>(v);
  const auto end = ids.begin() + static_cast<std::ptrdiff_t>(std::min(top, ids.size()));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    return logits_V[static_cast<size_t>(a)] != logits_V[static_cast<size_t>(b)] ? logits_V[static_cast<size_t>(a)] > logits_V[static_cast<size_t>(b)] : a < b;
  });
  for (auto id = ids.begin(); id != end; ++id) out.top.push_back({*id, logprob(*id)});
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
