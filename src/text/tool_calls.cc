// The ways in which published models write a tool call.
#include "base/ordered_json.h"
#include "jinja/context.h"
#include "jinja/print.h"
#include "jinja/unicode.h"
#include "text/call_scanner.h"
#include "text/reply.h"

namespace moiety::text {
namespace {

using jinja::strip_space;
using jinja::Type;
using jinja::Value;

// JSON whose parts stay in order, and what it takes to print them.
struct Parsed {
  jinja::Budget budget;
  jinja::Heap heap{budget};
  Value value;

  // False if the text is no JSON.
  bool read(std::string_view text) {
    try {
      value = jinja::parse_json_value(text, "tool call", heap);
      return true;
    } catch (const Error&) {
      return false;
    } catch (const jinja::Fault&) {  // more than any call has
      return false;
    }
  }
  std::string print(const Value& part) {
    std::string text;
    jinja::append_json(text, part, {}, budget);
    return text;
  }
};

const Value* member(const Value& object, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const Value* found = object.is(Type::Dict) ? object.dict->find(name) : nullptr;
    if (found != nullptr) return found;
  }
  return nullptr;
}

// {"name": …, "arguments": {…}}, perhaps within "function".
bool add_call(Parsed& parsed, const Value& value, std::vector<ToolCall>& calls) {
  const Value* inner = member(value, {"function"});
  const Value& call = inner != nullptr && inner->is(Type::Dict) ? *inner : value;
  const Value* name = member(call, {"name"});
  if (name == nullptr || !name->is_string()) return false;
  const Value* arguments = member(call, {"arguments", "parameters"});
  if (arguments == nullptr) {
    calls.push_back({std::string(name->text()), "{}"});
    return true;
  }
  if (arguments->is_string()) {
    Parsed text;
    if (!text.read(arguments->text()) || !text.value.is(Type::Dict)) return false;
    calls.push_back({std::string(name->text()), text.print(text.value)});
    return true;
  }
  if (!arguments->is(Type::Dict)) return false;
  calls.push_back({std::string(name->text()), parsed.print(*arguments)});
  return true;
}

std::vector<ToolCall> from_json(std::string_view text) {
  Parsed parsed;
  if (!parsed.read(text)) return {};
  std::vector<ToolCall> calls;
  if (!parsed.value.is(Type::List)) {
    add_call(parsed, parsed.value, calls);
    return calls;
  }
  for (const Value& value : parsed.value.list->items) {
    if (!add_call(parsed, value, calls)) return {};
  }
  return calls;
}

// The text between two marks, which goes from `rest`; false if they are not both there.
bool take_between(std::string_view& rest, std::string_view open, std::string_view close, std::string_view& inner) {
  const size_t begin = rest.find(open);
  if (begin == rest.npos) return false;
  const size_t end = rest.find(close, begin + open.size());
  if (end == rest.npos) return false;
  inner = rest.substr(begin + open.size(), end - begin - open.size());
  rest.remove_prefix(end + close.size());
  return true;
}

// Values that are written without quotes: JSON if it is some, otherwise text.
void add_argument(std::string& arguments, std::string_view name, std::string_view value) {
  Parsed scratch;
  const bool is_json = scratch.read(value) && !scratch.value.is_string();
  const std::string printed = is_json ? scratch.print(scratch.value) : scratch.print(scratch.heap.text(std::string(value)));
  if (!arguments.empty()) arguments += ", ";
  arguments += scratch.print(scratch.heap.text(std::string(name))) + ": " + printed;
}

std::string_view without_newlines(std::string_view text) {
  if (text.starts_with('\n')) text.remove_prefix(1);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

// Qwen3-Coder: <function=NAME> <parameter=KEY> value </parameter> … </function>
std::vector<ToolCall> from_function_tags(std::string_view rest) {
  std::vector<ToolCall> calls;
  std::string_view function;
  while (take_between(rest, "<function=", "</function>", function)) {
    const size_t end = function.find('>');
    if (end == function.npos) return {};
    const std::string_view name = function.substr(0, end);
    function.remove_prefix(end + 1);
    std::string arguments;
    std::string_view parameter;
    while (take_between(function, "<parameter=", "</parameter>", parameter)) {
      const size_t key_end = parameter.find('>');
      if (key_end == parameter.npos) return {};
      add_argument(arguments, parameter.substr(0, key_end), without_newlines(parameter.substr(key_end + 1)));
    }
    calls.push_back({std::string(strip_space(name)), "{" + arguments + "}"});
  }
  return calls;
}

// GLM-4.5: NAME <arg_key>key</arg_key> <arg_value>value</arg_value> …
std::vector<ToolCall> from_argument_tags(std::string_view rest) {
  const std::string_view name = strip_space(rest.substr(0, rest.find("<arg_key>")));
  if (name.empty() || name.find_first_of(" \n<{") != name.npos) return {};
  std::string arguments;
  std::string_view key, value;
  while (take_between(rest, "<arg_key>", "</arg_key>", key)) {
    if (!take_between(rest, "<arg_value>", "</arg_value>", value)) return {};
    add_argument(arguments, strip_space(key), value);
  }
  return {{std::string(name), "{" + arguments + "}"}};
}

// DeepSeek: <｜tool▁call▁begin｜>TYPE<｜tool▁sep｜>NAME ```json {…} ``` <｜tool▁call▁end｜>, or NAME<｜tool▁sep｜>{…}
std::vector<ToolCall> from_deepseek(std::string_view rest) {
  static constexpr std::string_view kBegin = "<｜tool▁call▁begin｜>", kEnd = "<｜tool▁call▁end｜>", kSeparator = "<｜tool▁sep｜>";
  std::vector<ToolCall> calls;
  std::string_view call;
  while (take_between(rest, kBegin, kEnd, call)) {
    const size_t separator = call.find(kSeparator);
    if (separator == call.npos) return {};
    std::string_view name = call.substr(0, separator), arguments = call.substr(separator + kSeparator.size());
    const size_t fence = arguments.find("```json");
    if (fence != arguments.npos) {
      name = arguments.substr(0, fence);
      arguments = arguments.substr(fence + 7);
      arguments = arguments.substr(0, arguments.rfind("```"));
    }
    Parsed parsed;
    if (!parsed.read(arguments) || !parsed.value.is(Type::Dict)) return {};
    calls.push_back({std::string(strip_space(name)), parsed.print(parsed.value)});
  }
  return calls;
}

// Mistral's later way: NAME{…} or NAME[ARGS]{…}; Llama's built-in tools: NAME.call(key="value", …).
std::vector<ToolCall> from_name_and_arguments(std::string_view text) {
  const size_t end = text.find_first_of("{[.(\n ");
  if (end == 0 || end == text.npos) return {};
  const std::string name(text.substr(0, end));
  std::string_view rest = text.substr(end);
  if (rest.starts_with("[ARGS]")) rest.remove_prefix(6);
  if (rest.starts_with("{")) {
    Parsed parsed;
    if (!parsed.read(rest)) return {};
    return {{name, parsed.print(parsed.value)}};
  }
  if (!rest.starts_with(".call(") || !rest.ends_with(')')) return {};
  rest = rest.substr(6, rest.size() - 7);
  std::string arguments;
  while (!(rest = strip_space(rest)).empty()) {
    const size_t equals = rest.find("=\"");
    const size_t close = equals == rest.npos ? rest.npos : rest.find('"', equals + 2);
    if (close == rest.npos) return {};
    add_argument(arguments, strip_space(rest.substr(0, equals)), rest.substr(equals + 2, close - equals - 2));
    rest = strip_space(rest.substr(close + 1));
    if (rest.starts_with(',')) rest.remove_prefix(1);
  }
  return {{name, "{" + arguments + "}"}};
}

std::vector<ToolCall> calls_in(std::string_view inner) {
  if (inner.empty()) return {};
  if (inner[0] == '{' || inner[0] == '[') return from_json(inner);
  if (inner.starts_with("<function=")) return from_function_tags(inner);
  if (inner.starts_with("<｜tool▁call▁begin｜>")) return from_deepseek(inner);
  if (inner.find("<arg_key>") != inner.npos) return from_argument_tags(inner);
  return from_name_and_arguments(inner);
}

// Whether the text is what was printed of it, but for white space and the like. A name that comes twice is no such thing.
bool says(std::string_view text, const std::string& printed) {
  Parsed parsed;
  if (!parsed.read(text) || parsed.print(parsed.value) != printed) return false;
  try {
    parse_ordered_json(text, "arguments");
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<ToolCall> parse_tool_calls(std::string_view inner) {
  std::vector<ToolCall> calls = calls_in(strip_space(inner));
  // As the model wrote them, which is what is streamed.
  CallScanner scanner;
  scanner.push(inner);
  const std::vector<ToolCall>& written = scanner.calls();
  for (size_t i = 0; i < calls.size() && calls.size() == written.size(); ++i) {
    if (written[i].name == calls[i].name && says(written[i].arguments, calls[i].arguments)) calls[i].arguments = written[i].arguments;
  }
  return calls;
}

}  // namespace moiety::text
