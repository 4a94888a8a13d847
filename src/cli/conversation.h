// A conversation with a model, wherever that runs: what has been said, and how the next answer comes.
#pragma once

#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ordered_json.h"
#include "cli/open_model.h"
#include "cli/sampling_arguments.h"
#include "cli/trace_option.h"
#include "text/reply.h"

namespace moiety::cli {

struct ChatArguments {
  ModelArguments model;  // or the address of a server
  SamplingArguments sampling;
  std::optional<std::string> prompt, system, context, now, key;
  std::vector<std::string> settings;
  size_t count = 1024;  // tokens of an answer at most
  bool json = false;
  TraceOption trace;  // of a model that this process loads
};

struct ChatAnswer {
  text::Reply reply;
  std::string finish_reason;  // "stop", "length", "tool_calls", "cancelled"
  std::string stop_token;     // which one it was, if that is known
  size_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};

inline volatile std::sig_atomic_t stopped = 0;  // set by Ctrl-C while an answer comes: it shall end

class Conversation {
 public:
  // Messages that come first, tools and settings of the template, as the command line says. Throws Error.
  explicit Conversation(const ChatArguments& arguments);
  virtual ~Conversation() = default;

  void clear() { messages_ = given_; }
  void set_system(const std::string& text);
  void say(const std::string& text) { messages_.push_back({{"role", "user"}, {"content", text}}); }
  void take_back() { messages_.erase(messages_.end() - 1); }

  // Answers what was said last; `show` is given the parts as they come. Throws Error; the conversation is what it was then.
  using Show = std::function<void(const text::ReplyPart&)>;
  virtual ChatAnswer answer(const Show& show) = 0;

 protected:
  void remember(const text::Reply& reply, const char* reasoning_name);

  OrderedJson context_;  // what the template is given, but for the messages
  OrderedJson messages_;

 private:
  void set(const std::string& setting);

  OrderedJson given_;
};

// As the API writes them.
OrderedJson calls_of(const text::Reply& reply);

// With a model that this process loads.
std::unique_ptr<Conversation> local_conversation(ChatArguments& arguments);
// With the server at arguments.model.model, "http://127.0.0.1:8080".
std::unique_ptr<Conversation> remote_conversation(const ChatArguments& arguments);

}  // namespace moiety::cli
