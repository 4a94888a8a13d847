// Answers that call tools and can't fail to parse: perhaps some text, then one call or several as the model's family writes them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"

namespace moiety::grammar {

struct Tool {
  std::string name;
  OrderedJson parameters = OrderedJson::object();  // the schema of the arguments; null or {}: any object
};

// How a call is written: open, call, close. A call is a JSON object of the name and the arguments, or, with a separator, the bare
// name, the separator and the arguments. Between the parts white space may come as in JSON.
//   Qwen, Hermes    <tool_call>{"name": "…", "arguments": {…}}</tool_call>
//   Llama 3.1       {"name": "…", "parameters": {…}}              no markers
//   Mistral         [TOOL_CALLS][{"name": "…", "arguments": {…}}] is_list; later NAME[ARGS]{…}, separator "[ARGS]"
struct ToolFormat {
  std::string open, close;
  std::string name_key = "name", arguments_key = "arguments";
  bool is_list = false;  // one block, a JSON list of calls
  std::string separator;
};

struct ToolGrammarOptions {
  bool text_before = false;  // text may come before the first call, such as reasoning; needs `open`
  bool several = true;       // calls
  // Texts of the tokenizer's special tokens: where a marker contains one, the token itself may come as well as its characters.
  std::vector<std::string> special_tokens;
  SchemaOptions schemas = {.closed_objects = false, .ignore_unsupported = true};
};

// Throws Error(Input) for schemas that make no sense, and if there is no tool.
Grammar tool_grammar(std::span<const Tool> tools, const ToolFormat& format, const ToolGrammarOptions& options = {});

}  // namespace moiety::grammar
