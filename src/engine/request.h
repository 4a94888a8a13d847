// What somebody asks of the engine, and what they are told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "model/router_override.h"

namespace moiety::engine {

// Which tokens may come next in one answer, such as those that a grammar allows. Called by the engine's thread alone, in the
// order of the tokens.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Whether `token` may follow those accepted so far.
  virtual bool allows(int32_t token) = 0;
  // Sets the logits of all tokens that may not come next to -infinity. There is always one that may.
  virtual void mask(std::span<float> logits_V) = 0;
  virtual void accept(int32_t token) = 0;
};

struct Request {
  enum class Kind {
    Generate,  // tokens that follow the prompt
    Embed,     // the prompt as one vector
  };
  enum class Pooling { Mean, Last };  // of the last layer's normed activations of an Embed's tokens

  Kind kind = Kind::Generate;
  std::vector<int32_t> prompt;
  size_t max_new_tokens = 256;
  SamplingOptions sampling;
  std::vector<int32_t> stop_tokens;  // any of these ends the text; it is not part of the result
  bool logprobs = false;             // of each token and of the top_logprobs likeliest, before temperature and penalties
  size_t top_logprobs = 0;
  bool prompt_logprobs = false;      // of the prompt's tokens, too: nothing of it is taken from what was computed before
  std::unique_ptr<TokenConstraint> constraint;
  std::shared_ptr<const model::RouterOverride> router;
  bool speculate = true;             // tokens may be drafted from what was said before; the text is the same
  Pooling pooling = Pooling::Mean;

  // That it may wait for its first token to be computed; then it ends as Overdue.
  double queue_seconds = std::numeric_limits<double>::infinity();
  int priority = 0;    // higher goes first
  std::string client;  // who asks: turns are fair between clients of one priority
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct NewToken {
  int32_t token = 0;
  float logprob = 0;              // if asked for; 0 for the first of a prompt
  std::vector<TokenLogprob> top;  // likeliest first
};

struct Outcome {
  enum class Stop { Length, StopToken, ContextFull, Listener, Cancelled, Overdue, Failed };

  Stop stop = Stop::Length;
  int32_t stop_token = -1;  // which one it was
  std::string error;        // of Failed: one sentence
  std::vector<float> embedding_D;
  size_t prompt_tokens = 0, cached_tokens = 0;  // cached: of the prompt, not computed again
  size_t new_tokens = 0;                        // that the listener was told of
  size_t drafted = 0, accepted = 0;             // tokens by speculation
  double queue_seconds = 0;    // until its first token was computed
  double prefill_seconds = 0;  // then, until the logits after the prompt
  double decode_seconds = 0;   // then, to the end
};

// Told of a request's progress by the engine's thread, which waits meanwhile: be quick. One that throws ends its request as failed.
class Listener {
 public:
  virtual ~Listener() = default;
  // Of the prompt's tokens, once, before the first new one, if prompt_logprobs were asked for.
  virtual void on_prompt(std::span<const NewToken> /*tokens*/) {}
  // Returns false if this one was enough.
  virtual bool on_token(const NewToken& token) = 0;
  // Once, and nothing comes after it.
  virtual void on_end(const Outcome& outcome) = 0;
};

}  // namespace moiety::engine
