// What every protocol asks for in the end: prompts, and how they are to be answered.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/exchange.h"
#include "server/output_rule.h"
#include "text/reply.h"

namespace moiety::server {

struct Prompt {
  std::vector<int32_t> tokens;
  std::vector<int32_t> stop_tokens;
  // How the answer is taken apart; nothing: it is text, and special tokens are left out.
  std::optional<text::ReplyFormat> format;
};

struct AnswerRequest {
  std::vector<Prompt> prompts;
  std::optional<engine::Request::Pooling> embed;  // the prompts as vectors; there is no text then
  size_t choices = 1;  // answers to each prompt; the seed of each is one more than that of the one before

  engine::SamplingOptions sampling;
  std::optional<size_t> max_new_tokens;  // what the context leaves is the most
  std::vector<std::string> stop;
  bool logprobs = false, prompt_logprobs = false;
  size_t top_logprobs = 0;
  bool shows_tokens = false;  // events have the tokens, without log probabilities too
  std::optional<OutputRule> rule;
  std::vector<std::unique_ptr<engine::TokenConstraint>> constraints;  // made of it, one an answer (answers.h)
  bool takes_calls = false;     // tool calls are looked for
  bool calls_in_pieces = false;  // their arguments are told of as they are written
  bool parallel_calls = true;   // or else the answer ends after the first
  bool forces_several = false;  // a call that must be made may be followed by others
  std::shared_ptr<const model::RouterOverride> router;
  bool speculate = true;
  bool ignore_ends = false;  // stop tokens are tokens like others
  int priority = 0;
  std::string client;
  std::string request;                // the HTTP request's id
  std::shared_ptr<TokenTally> tally;  // what is counted for the log, or null
};

// Whose request it is: named, counted, and as urgent as the request says and the client's key allows.
void set_client(AnswerRequest& answer, const HttpRequest& request);

}  // namespace moiety::server
