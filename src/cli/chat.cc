// moiety chat: a conversation in the terminal, with a model here or on a server.
#include <fmt/core.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

#include "base/say.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/conversation.h"

namespace moiety::cli {
namespace {

using Kind = text::ReplyPart::Kind;

constexpr const char* kHelp =
    "Talk with a model, or with a server that has one. On a terminal: a conversation; Ctrl-C ends an answer, /clear forgets the conversation, /system TEXT\n"
    "sets the system prompt, /exit ends. Otherwise standard input, or -p, is one message and the answer is printed.\n\n"
    "examples:\n"
    "  moiety chat path/to/model --system \"Answer in one sentence.\"\n"
    "  moiety chat http://127.0.0.1:8080\n"
    "  echo \"What is a router?\" | moiety chat path/to/model --json";

// Ctrl-C sets `stopped` until the end of the scope.
class CatchInterrupt {
 public:
  CatchInterrupt() {
    stopped = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { stopped = 1; };
    sigaction(SIGINT, &action, &before_);
  }
  ~CatchInterrupt() { sigaction(SIGINT, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

// Writes an answer as it comes: reasoning dimmed on a terminal and left out elsewhere.
class Screen {
 public:
  explicit Screen(bool is_terminal) : is_terminal_(is_terminal) {}

  void show(const text::ReplyPart& part) {
    if (part.kind == Kind::Reasoning && is_terminal_) {
      fmt::print("{}{}", dim_ ? "" : "\x1b[2m", part.text);
      dim_ = true;
    } else if (part.kind == Kind::Content) {
      end_dim();
      fmt::print("{}", part.text);
    }
    for (const text::ToolCall& call : part.calls) {
      end_dim();
      fmt::print("[{}({})]\n", call.name, call.arguments);
    }
    std::fflush(stdout);
  }
  void finish() {
    end_dim();
    fmt::print("\n");
    std::fflush(stdout);
  }

 private:
  void end_dim() {
    if (std::exchange(dim_, false)) fmt::print("\x1b[0m\n");
  }

  bool is_terminal_, dim_ = false;
};

void print_json(const ChatAnswer& answer) {
  OrderedJson json = {{"reasoning", answer.reply.reasoning}, {"content", answer.reply.content}};
  json["tool_calls"] = calls_of(answer.reply);
  json["finish_reason"] = answer.finish_reason;
  if (!answer.stop_token.empty()) json["stop_token"] = answer.stop_token;
  json["usage"] = {{"prompt_tokens", answer.prompt_tokens},
                   {"cached_tokens", answer.cached_tokens},
                   {"completion_tokens", answer.completion_tokens}};
  fmt::print("{}\n", to_text(json));
}

int answer_once(Conversation& chat, const ChatArguments& a, const std::string& message) {
  chat.say(message);
  Screen screen(isatty(STDOUT_FILENO) != 0);
  const CatchInterrupt interrupts;
  const ChatAnswer answer = chat.answer([&](const text::ReplyPart& part) {
    if (!a.json) screen.show(part);
  });
  if (a.json) {
    print_json(answer);
  } else {
    screen.finish();
  }
  return 0;
}

// What a line that begins with '/' asks for; false ends the conversation.
bool obey(Conversation& chat, const std::string& line) {
  const std::string command = line.substr(0, line.find(' '));
  if (command == "/exit" || command == "/quit") return false;
  if (command == "/clear") {
    chat.clear();
  } else if (command == "/system") {
    chat.set_system(line.size() > 8 ? line.substr(8) : "");
    chat.clear();
  } else {
    say("/clear forgets the conversation, /system TEXT sets the system prompt, /exit ends\n");
  }
  return true;
}

int converse(Conversation& chat, const ChatArguments& a) {
  std::string line;
  while (say("> "), std::getline(std::cin, line)) {
    if (line.empty()) continue;
    if (line[0] == '/') {
      if (!obey(chat, line)) return 0;
      continue;
    }
    try {
      answer_once(chat, a, line);
    } catch (const Error& error) {  // a template that refuses, a context that is full: the conversation goes on
      say("moiety: {}\n", error.what());
      chat.take_back();
    }
  }
  say("\n");
  return 0;
}

std::string read_all() {
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

int chat(int argc, char** argv) {
  ChatArguments a;
  CLI::App app(kHelp, "moiety chat");
  a.model.add_to(app);
  a.model.add_memory_to(app);
  app.add_option("-p,--prompt", a.prompt, "one message; the answer is printed");
  app.add_option("--system", a.system, "the system prompt");
  app.add_option("--context", a.context, "a JSON file with messages that come first, tools, documents, …");
  app.add_option("--set", a.settings, "NAME=VALUE for the template, such as enable_thinking=false");
  app.add_option("--now", a.now, "the time that the template sees (default: now)");
  app.add_option("-n", a.count, "tokens of an answer at most")->capture_default_str();
  a.sampling.add_to(app);
  app.add_option("--key", a.key, "the server's API key");
  a.trace.add_to(app, "each question and its answer");
  app.add_flag("--json", a.json, "answers as JSON: reasoning, content, tool_calls, finish_reason, usage");
  if (const auto status = parse(app, argc, argv)) return *status;

  const bool is_remote = a.model.model.starts_with("http://") || a.model.model.starts_with("https://");
  if (is_remote && a.trace.is_given()) fail(ErrorKind::Usage, "--trace records what this process computes; of a server's model, moiety serve --trace does");
  const auto chat = is_remote ? remote_conversation(a) : local_conversation(a);
  if (a.prompt) return answer_once(*chat, a, *a.prompt);
  if (isatty(STDIN_FILENO) == 0) return answer_once(*chat, a, read_all());
  return converse(*chat, a);
}

}  // namespace moiety::cli
