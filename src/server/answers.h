// Requests running in the engine, as their answers come: tokens become text, text is cut at stop strings and taken apart into
// reasoning, content and tool calls on the engine's thread; the handler's task gets it in events.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/admission.h"
#include "server/answer_request.h"
#include "server/exchange.h"
#include "server/service.h"

namespace moiety::server {

struct AnswerPart {
  enum class Kind { Reasoning, Content, ToolCall };
  Kind kind;
  std::string text;  // of reasoning and content; never empty. Of a call: its arguments, JSON as text
  std::string name, id;  // of a call
  bool goes_on = false;  // the text is more of the arguments of the call that was told of last
};

struct ShownToken {
  engine::NewToken token;
  size_t offset = 0;  // where its text begins, in characters of the answer's text
};

struct Ending {
  std::string reason;                      // "stop", "length" or "tool_calls"
  std::optional<std::string> stop_string;  // the one that ended it
  engine::Outcome outcome;
  size_t reasoning_tokens = 0;
};

struct AnswerEvent {
  size_t choice = 0;  // prompt times choices, plus which of them
  std::vector<AnswerPart> parts;
  std::vector<ShownToken> tokens;         // whose text is out now, if logprobs or tokens were asked for
  std::vector<engine::NewToken> prompt;   // if its logprobs were asked for: comes first, alone
  std::optional<Ending> ending;           // the last of its choice
};

// One whole answer.
struct Answer {
  std::string reasoning, content;
  std::vector<AnswerPart> calls;
  std::vector<ShownToken> tokens;
  std::vector<engine::NewToken> prompt;
  Ending ending;

  void add(AnswerEvent&& event);
};

// Makes what the request's rule allows known to the engine: to be done before it is answered. Throws HttpError(400) for a schema or
// grammar that can't be used.
void make_constraints(const Service& service, AnswerRequest& request);

template <class T>
class Mailbox;

// To be used by one task, on the executor it was made for. Requests that are not through are cancelled when it goes.
class Answers {
 public:
  // Throws Error(Input) for what the engine refuses, HttpError(429) if there are too many already. Takes the request's constraints.
  Answers(const Service& service, AnswerRequest& request, boost::asio::any_io_executor executor);
  ~Answers();
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  // The next event of any choice; nothing when all have ended. Throws HttpError(500) if the engine failed, 503 if it is
  // stopping, 429 if the request's turn did not come in time.
  Task<std::optional<AnswerEvent>> next();
  // All of them whole, by choice.
  Task<std::vector<Answer>> all();

  size_t size() const { return ids_.size(); }

 private:
  class Writer;

  const Service& service_;
  const Admission::Ticket ticket_;
  std::shared_ptr<Mailbox<AnswerEvent>> inbox_;
  std::vector<uint64_t> ids_;
  size_t ended_ = 0;
};

// What all answers of a request have taken.
struct Usage {
  size_t prompt_tokens = 0, cached_tokens = 0;  // of each prompt once
  size_t new_tokens = 0, reasoning_tokens = 0;

  void add(const Ending& ending, bool counts_prompt);
};

}  // namespace moiety::server
