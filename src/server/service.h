// What the protocols answer from: one engine, one model, and what belongs to them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ordered_json.h"
#include "engine/engine.h"
#include "jinja/date_time.h"
#include "server/answer_ids.h"
#include "server/output_rule.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace boost::asio {
class thread_pool;
}

namespace moiety::server {

struct Limits {
  size_t prompt_tokens = 0;  // of a prompt at most; 0: as many as the context leaves
  size_t new_tokens = 0;     // of an answer that is not asked for any number; 0: as many as the context leaves
  size_t answers = 64;       // n times prompts of a request
  size_t max_queue = 64;     // answers that wait while the engine writes as many as it can
  double queue_seconds = 120;  // that a request waits at most before it is begun
  size_t stored_responses = 1000;       // that /v1/responses keeps for previous_response_id …
  size_t stored_bytes = 64ull << 20;    // … and what they take at most
};

class Admission;
class Metrics;
class ResponseStore;

// All threads that run handlers share one.
struct Service {
  engine::Engine& engine;
  const text::Tokenizer& tokenizer;
  const text::ChatTemplate* chat_template = nullptr;  // null: the model has none, and does not chat
  std::string model;                                  // its name in answers
  std::vector<std::string> other_names;               // that a request may call it by …
  std::string path;                                   // … this one too, which no answer shows …
  bool takes_any_name = false;                        // … or any at all
  int64_t created = 0;                                // seconds since 1970
  engine::SamplingOptions sampling{.temperature = 0.8f, .top_p = 0.95f};  // of requests that don't say; its seed is not read
  std::optional<uint64_t> seed;                                           // of these; nothing: a new one each time
  OrderedJson template_settings = OrderedJson::object();                  // names for the chat template; a request's own go first
  Limits limits;
  uint64_t memory_budget = 0;  // bytes; 0: none was set
  std::function<jinja::DateTime()> now = jinja::current_date_time;  // what templates print
  Metrics* metrics = nullptr;                                        // where tokens are counted, if anywhere
  std::shared_ptr<AnswerIds> answer_ids = std::make_shared<AnswerIds>();  // for who asks what an answer's experts do
  // Filled in by api_routes where they are empty:
  std::function<int64_t()> time;                     // seconds since 1970, what answers are stamped with
  ConstraintMaker constrain;                         // of response_format, grammar and tool_choice
  std::shared_ptr<Admission> admission;              // how many answers there may be at a time
  std::shared_ptr<ResponseStore> responses;          // for previous_response_id
  // Threads that requests are read on. The last member: they end before what they use.
  std::shared_ptr<boost::asio::thread_pool> workers;
};

}  // namespace moiety::server
