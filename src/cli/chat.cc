// moiety chat: a conversation in the terminal, through the model's chat template.
#include <fmt/core.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "base/ordered_json.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_chat_template.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/sampling_arguments.h"
#include "engine/generate.h"
#include "text/reply.h"
#include "text/reply_tokens.h"
#include "text/text_stream.h"

namespace moiety::cli {
namespace {

using engine::Generated;
using Kind = text::ReplyPart::Kind;

constexpr const char* kHelp =
    "Talk with a model. On a terminal: a conversation; Ctrl-C ends an answer, /clear forgets the conversation, /system TEXT\n"
    "sets the system prompt, /exit ends. Otherwise standard input, or -p, is one message and the answer is printed.\n\n"
    "examples:\n"
    "  moiety chat path/to/model --system \"Answer in one sentence.\"\n"
    "  echo \"What is a router?\" | moiety chat path/to/model --json";

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  std::optional<std::string> prompt, system, context, now;
  std::vector<std::string> settings;
  size_t count = 1024;
  bool json = false;
};

volatile std::sig_atomic_t stopped = 0;  // set by Ctrl-C

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

class Chat {
 public:
  explicit Chat(const Arguments& arguments)
      : arguments_(arguments),
        sampling_(arguments.sampling.options()),
        template_(open_chat_template(arguments.model.model)),
        model_(arguments.model),
        context_(OrderedJson::object()) {
    if (arguments.context) context_ = parse_ordered_json(read_file(*arguments.context), *arguments.context);
    require(context_.is_object(), "{}: expected a JSON object with messages", arguments.context.value_or(""));
    for (const std::string& setting : arguments.settings) set(setting);
    context_["add_generation_prompt"] = true;
    given_ = context_.value("messages", OrderedJson::array());
    require(given_.is_array(), "{}: \"messages\" must be a list", arguments.context.value_or(""));
    if (arguments.system) set_system(*arguments.system);
    clear();
    constexpr size_t kConversation = 8192;  // tokens that memory is kept for; a longer one may take more
    const size_t context = static_cast<size_t>(model_.file.spec().max_positions);
    const size_t conversation = std::min(context, std::max(kConversation, 2 * arguments.count));
    fit_memory(model_, arguments.model, {.sequences = {conversation}, .prompt = conversation});
  }

  void clear() { messages_ = given_; }
  void set_system(const std::string& text) {
    if (!given_.empty() && given_[0].is_object() && given_[0].value("role", "") == "system") given_.erase(given_.begin());
    given_.insert(given_.begin(), OrderedJson{{"role", "system"}, {"content", text}});
  }
  void say(const std::string& text) { messages_.push_back({{"role", "user"}, {"content", text}}); }
  void take_back() { messages_.erase(messages_.end() - 1); }

  // Answers what was said last; `show` is given the parts as they come.
  template <class Show>
  text::Reply answer(Show show) {
    const std::string prompt = render();
    const bool with_tools = context_.contains("tools") && !context_["tools"].empty();
    const text::ReplyFormat format = text::reply_format(template_.source(with_tools), prompt);
    const std::vector<int32_t> ids = model_.need_tokenizer().encode(prompt, false);
    engine::GenerateOptions options{.max_new_tokens = arguments_.count, .sampling = sampling_, .kv = model_.kv};
    options.stop_tokens = text::stop_tokens(model_.file.spec().eos_tokens, template_, format, *model_.tokenizer);

    text::Reply reply;
    text::ReplyParser parser(format);
    text::TextStream stream(*model_.tokenizer, false);
    const auto pass_on = [&](const std::vector<text::ReplyPart>& parts) {
      for (const text::ReplyPart& part : parts) {
        reply.add(part);
        show(part);
      }
    };
    const CatchInterrupt interrupts;
    result_ = engine::generate(model_.transformer, ids, options, [&](int32_t token) {
      if (text::is_shown(token, format, *model_.tokenizer)) pass_on(parser.push(stream.push(token)));
      return stopped == 0;
    }, &cache_);
    pass_on(parser.push(stream.finish()));
    pass_on(parser.finish());
    prompt_tokens_ = ids.size();
    reply.trim();
    remember(reply, format);
    return reply;
  }

  const char* finish_reason(const text::Reply& reply) const {
    if (result_.stop == Generated::Stop::Caller) return "cancelled";
    if (result_.stop != Generated::Stop::StopToken) return "length";
    return reply.tool_calls.empty() ? "stop" : "tool_calls";
  }

  void print_json(const text::Reply& reply) const {
    OrderedJson json = {{"reasoning", reply.reasoning}, {"content", reply.content}};
    json["tool_calls"] = calls_of(reply);
    json["finish_reason"] = finish_reason(reply);
    if (result_.stop_token >= 0) json["stop_token"] = model_.tokenizer->token_bytes(result_.stop_token);
    json["usage"] = {{"prompt_tokens", prompt_tokens_},
                     {"cached_tokens", result_.reused_tokens},
                     {"completion_tokens", result_.tokens.size()}};
    fmt::print("{}\n", to_text(json));
  }

 private:
  // NAME=JSON; what is no JSON is text.
  void set(const std::string& setting) {
    const size_t equals = setting.find('=');
    if (equals == setting.npos || equals == 0) fail(ErrorKind::Usage, "--set {}: expected NAME=VALUE", setting);
    const std::string value = setting.substr(equals + 1);
    const bool is_json = Json::accept(value);
    context_[setting.substr(0, equals)] = is_json ? parse_ordered_json(value, "--set") : OrderedJson(value);
  }

  std::string render() {
    context_["messages"] = messages_;
    const std::string text = to_text(context_);
    const jinja::DateTime now = arguments_.now ? jinja::parse_date_time(*arguments_.now) : jinja::current_date_time();
    return template_.render(jinja::Context::parse(text, "the conversation"), now);
  }

  static OrderedJson calls_of(const text::Reply& reply) {
    OrderedJson calls = OrderedJson::array();
    for (size_t i = 0; i < reply.tool_calls.size(); ++i) {
      const text::ToolCall& call = reply.tool_calls[i];
      calls.push_back({{"id", fmt::format("call{:05}", i)},
                       {"type", "function"},
                       {"function", {{"name", call.name}, {"arguments", OrderedJson::parse(call.arguments)}}}});
    }
    return calls;
  }

  void remember(const text::Reply& reply, const text::ReplyFormat& format) {
    OrderedJson message = {{"role", "assistant"}, {"content", reply.content}};
    if (!reply.reasoning.empty()) message[format.channels ? "thinking" : "reasoning_content"] = reply.reasoning;
    if (!reply.tool_calls.empty()) message["tool_calls"] = calls_of(reply);
    messages_.push_back(std::move(message));
  }

  const Arguments& arguments_;
  engine::SamplingOptions sampling_;
  text::ChatTemplate template_;
  OpenModel model_;
  OrderedJson context_, given_, messages_;
  engine::PromptCache cache_;
  Generated result_;
  size_t prompt_tokens_ = 0;
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

int answer_once(Chat& chat, const Arguments& a, const std::string& message) {
  chat.say(message);
  Screen screen(isatty(STDOUT_FILENO) != 0);
  const text::Reply reply = chat.answer([&](const text::ReplyPart& part) {
    if (!a.json) screen.show(part);
  });
  if (a.json) {
    chat.print_json(reply);
  } else {
    screen.finish();
  }
  return 0;
}

// What a line that begins with '/' asks for; false ends the conversation.
bool obey(Chat& chat, const std::string& line) {
  const std::string command = line.substr(0, line.find(' '));
  if (command == "/exit" || command == "/quit") return false;
  if (command == "/clear") {
    chat.clear();
  } else if (command == "/system") {
    chat.set_system(line.size() > 8 ? line.substr(8) : "");
    chat.clear();
  } else {
    fmt::print(stderr, "/clear forgets the conversation, /system TEXT sets the system prompt, /exit ends\n");
  }
  return true;
}

int converse(Chat& chat, const Arguments& a) {
  std::string line;
  while (fmt::print(stderr, "> "), std::getline(std::cin, line)) {
    if (line.empty()) continue;
    if (line[0] == '/') {
      if (!obey(chat, line)) return 0;
      continue;
    }
    try {
      answer_once(chat, a, line);
    } catch (const Error& error) {  // a template that refuses, a context that is full: the conversation goes on
      fmt::print(stderr, "moiety: {}\n", error.what());
      chat.take_back();
    }
  }
  fmt::print(stderr, "\n");
  return 0;
}

std::string read_all() {
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

int chat(int argc, char** argv) {
  Arguments a;
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
  app.add_flag("--json", a.json, "answers as JSON: reasoning, content, tool_calls, finish_reason, usage");
  if (const auto status = parse(app, argc, argv)) return *status;

  Chat chat(a);
  if (a.prompt) return answer_once(chat, a, *a.prompt);
  if (isatty(STDIN_FILENO) == 0) return answer_once(chat, a, read_all());
  return converse(chat, a);
}

}  // namespace moiety::cli
