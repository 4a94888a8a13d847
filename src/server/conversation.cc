#include "server/conversation.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "server/exchange.h"
#include "server/fields.h"
#include "text/reply_tokens.h"

namespace moiety::server {
namespace {

// Arguments of calls come as text. Most templates want the object, some the text.
void parse_arguments(OrderedJson& messages) {
  for (OrderedJson& message : messages) {
    const auto calls = message.find("tool_calls");
    if (calls == message.end() || !calls->is_array()) continue;
    for (OrderedJson& call : *calls) {
      OrderedJson& arguments = call["function"]["arguments"];
      try {
        OrderedJson parsed = parse_ordered_json(arguments.get_ref<const std::string&>(), "arguments");
        if (parsed.is_object()) arguments = std::move(parsed);
      } catch (const Error&) {  // a model's mistake, told back to it as it was
      }
    }
  }
}

text::PlainMarked render_messages(const Service& service, const Conversation& conversation, const OrderedJson& messages) {
  OrderedJson context = service.template_settings;
  context.update(conversation.settings);
  context["messages"] = messages;
  if (!conversation.tools.empty()) context["tools"] = conversation.tools;
  context["add_generation_prompt"] = conversation.add_generation_prompt && !conversation.continue_final_message;
  const text::PlainMarks marks(service.tokenizer, text::make_mark());
  return marks.take(service.chat_template->render(jinja::Context::parse(to_text(marks.put(context)), "the conversation"), service.now()));
}

// A message of calls alone has no content. Most templates know that, some want a text.
void empty_missing_content(OrderedJson& messages) {
  for (OrderedJson& message : messages) {
    OrderedJson& content = message["content"];
    if (content.is_null()) content = "";
  }
}

// As most templates want the messages; if this one fails on them, as others do.
text::PlainMarked render_either_way(const Service& service, const Conversation& conversation, const OrderedJson& messages) {
  std::vector<OrderedJson> tried;
  std::exception_ptr first_fault;
  for (const auto& [has_objects, has_contents] : {std::pair{true, false}, {true, true}, {false, false}, {false, true}}) {
    OrderedJson way = messages;
    if (has_objects) parse_arguments(way);
    if (has_contents) empty_missing_content(way);
    if (std::find(tried.begin(), tried.end(), way) != tried.end()) continue;
    try {
      return render_messages(service, conversation, way);
    } catch (const jinja::TemplateError& error) {
      if (error.fault() != jinja::FaultKind::Operation) throw;
      if (!first_fault) first_fault = std::current_exception();
    }
    tried.push_back(std::move(way));
  }
  std::rethrow_exception(first_fault);
}

// The last message's text is marked at its end, and the prompt ends where the mark turns up.
text::PlainMarked render_unfinished(const Service& service, const Conversation& conversation) {
  OrderedJson messages = conversation.messages;
  OrderedJson& content = messages.back()["content"];
  const std::string mark = text::make_mark();
  content = (content.is_string() ? content.get<std::string>() : std::string()) + mark;
  text::PlainMarked prompt = render_either_way(service, conversation, messages);
  const size_t end = prompt.text.rfind(mark);
  if (end == prompt.text.npos) wrong_field("continue_final_message", "the model's chat template does not show the last message's content");
  prompt.text.resize(end);
  std::erase_if(prompt.plain, [&](size_t at) { return at >= end; });
  return prompt;
}

}  // namespace

text::PlainMarked render(const Service& service, const Conversation& conversation) {
  if (service.chat_template == nullptr) {
    wrong_field("messages", "this model has no chat template: only /v1/completions answers", "no_chat_template");
  }
  try {
    if (conversation.continue_final_message && !conversation.messages.empty()) return render_unfinished(service, conversation);
    return render_either_way(service, conversation, conversation.messages);
  } catch (const jinja::TemplateError& error) {
    // Where the template's file lies is nobody's business.
    const std::string_view what = error.what();
    const size_t slash = what.rfind('/', what.find(", line "));
    wrong_field("messages", std::string(what.substr(slash == what.npos ? 0 : slash + 1)), "chat_template_error");
  }
}

Prompt make_prompt(const Service& service, const Conversation& conversation) {
  const text::PlainMarked rendered = render(service, conversation);
  Prompt prompt;
  prompt.format = text::reply_format(service.chat_template->source(!conversation.tools.empty()), rendered.text);
  prompt.tokens = service.tokenizer.encode(rendered.text, false, rendered.plain);
  prompt.stop_tokens =
      text::stop_tokens(service.engine.spec().eos_tokens, *service.chat_template, *prompt.format, service.tokenizer);
  check_length(service, prompt.tokens.size(), "messages");
  return prompt;
}

void check_length(const Service& service, size_t prompt_tokens, const char* param) {
  const size_t context = service.engine.options().context;
  const size_t most = service.limits.prompt_tokens == 0 ? context - 1 : std::min(context - 1, service.limits.prompt_tokens);
  if (prompt_tokens > most) {
    // Clients that shorten a conversation and ask again know the beginning of this sentence, which is Anthropic's.
    const std::string sentence = fmt::format("prompt is too long: {} tokens > {} maximum; the context has {}", prompt_tokens, most, context);
    throw HttpError(400, sentence, "context_length_exceeded", param);
  }
  if (prompt_tokens == 0) wrong_field(param, fmt::format("'{}' gives an empty prompt", param));
}

void check_model(const Service& service, const std::string& name) {
  if (name.empty() || name == service.model || name == service.path) return;
  if (service.takes_any_name || std::find(service.other_names.begin(), service.other_names.end(), name) != service.other_names.end()) return;
  const std::string_view cut = std::string_view(name).substr(0, 100);
  throw HttpError(404, fmt::format("there is no model '{}' here: this server answers as '{}'", cut, service.model), "model_not_found", "model");
}

}  // namespace moiety::server
