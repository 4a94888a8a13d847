// Tool calls as they are being written: names, and as much of their JSON arguments as is there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moiety::text {

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object, as text: as the model wrote it, if it wrote JSON
};

// Reads a block's text in pieces of any size, in time that grows with the text alone. What is not written as {"name": …, "arguments":
// {…}}, one or a list of them, as NAME{…}, or in DeepSeek's way, is not seen: that is told when the block is complete (parse_tool_calls).
class CallScanner {
 public:
  CallScanner() = default;
  // Of arguments by themselves.
  explicit CallScanner(std::string name) : name_(std::move(name)), has_name_(true) {}

  void push(std::string_view text);
  // In the order in which they begin; arguments as the model writes them. The last one's may be unfinished.
  const std::vector<ToolCall>& calls() const { return calls_; }

 private:
  enum class State { Head, Members, Key, Colon, Value, Name, Skip, After, Arguments, Lost };

  void take(char c);
  void in_head(char c);
  void in_value(char c);
  bool ends_value(char c);
  void begin_arguments();

  State state_ = State::Head;
  std::string head_, key_, name_;
  bool has_name_ = false, has_arguments_ = false, is_list_ = false, is_object_ = false;
  size_t depth_ = 0;  // of brackets in the value that is read
  bool in_string_ = false, is_escaped_ = false;
  std::vector<ToolCall> calls_;
};

}  // namespace moiety::text
