#include "text/call_scanner.h"

#include <utility>

#include "jinja/unicode.h"

namespace moiety::text {
namespace {

using jinja::strip_space;

constexpr size_t kLongestHead = 1000;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// What stands before a call's arguments, and is its name: NAME, NAME[ARGS], or in DeepSeek's marks. Empty if it is none.
std::string name_in(std::string_view head, bool is_first) {
  static constexpr std::string_view kBegin = "<｜tool▁call▁begin｜>", kSeparator = "<｜tool▁sep｜>", kFence = "```json", kArguments = "[ARGS]";
  const size_t begin = head.rfind(kBegin);
  if (begin != head.npos) {
    head.remove_prefix(begin + kBegin.size());
    const size_t separator = head.find(kSeparator);
    if (separator == head.npos) return {};
    const std::string_view before = head.substr(0, separator), behind = head.substr(separator + kSeparator.size());
    const size_t fence = behind.find(kFence);
    if (fence != behind.npos) return std::string(strip_space(behind.substr(0, fence)));
    return strip_space(behind).empty() ? std::string(strip_space(before)) : std::string();
  }
  head = strip_space(head, true, false);
  if (head.ends_with(kArguments)) head.remove_suffix(kArguments.size());
  const bool is_name = is_first && head.find_first_of("[.(\n <") == head.npos;
  return is_name ? std::string(head) : std::string();
}

}  // namespace

void CallScanner::push(std::string_view text) {
  for (const char c : text) {
    if (state_ == State::Lost) return;
    take(c);
  }
}

void CallScanner::take(char c) {
  switch (state_) {
    case State::Head:
      return in_head(c);
    case State::Members:
      if (c == '"') {
        key_.clear();
        state_ = State::Key;
      } else if (c == '}') {
        state_ = State::After;
      } else if (c != ',' && !is_space(c)) {
        state_ = State::Lost;
      }
      return;
    case State::Key:
    case State::Name: {
      std::string& text = state_ == State::Key ? key_ : name_;
      if (c == '\\') {
        state_ = State::Lost;
      } else if (c != '"') {
        text += c;
      } else if (state_ == State::Key) {
        state_ = State::Colon;
      } else {
        has_name_ = true;
        state_ = State::Members;
      }
      return;
    }
    case State::Colon:
      if (!is_space(c)) state_ = c == ':' ? State::Value : State::Lost;
      return;
    case State::Value:
      if (!is_space(c)) in_value(c);
      return;
    case State::Skip:
      if (depth_ == 0 && !in_string_ && (c == ',' || c == '}')) {
        state_ = c == ',' ? State::Members : State::After;
      } else {
        ends_value(c);
      }
      return;
    case State::After:  // of a call's object
      if (c == '{' && is_list_) {
        has_name_ = has_arguments_ = false;
        name_.clear();
        state_ = State::Members;
      } else if (c == '{') {
        state_ = State::Lost;
      }
      return;
    case State::Arguments:
      calls_.back().arguments += c;
      if (ends_value(c)) state_ = is_object_ ? State::Members : State::Head;
      return;
    case State::Lost:
      return;
  }
}

void CallScanner::in_head(char c) {
  if (c != '{') {
    head_ += c;
    if (head_.size() > kLongestHead) state_ = State::Lost;
    return;
  }
  const std::string head = std::exchange(head_, {});
  const std::string_view words = strip_space(head);
  const bool is_first = calls_.empty();
  const bool is_named = has_name_;  // by whoever made this: there are arguments and nothing else
  if (is_first && !is_named && (words.empty() || words == "[")) {
    is_list_ = words == "[";
    is_object_ = true;
    state_ = State::Members;
    return;
  }
  if (!is_named) name_ = name_in(head, is_first);
  const bool is_call = is_named ? is_first && words.empty() : !name_.empty();
  state_ = State::Lost;
  if (is_call) begin_arguments();
}

void CallScanner::in_value(char c) {
  const bool is_arguments = key_ == "arguments" || key_ == "parameters";
  if (key_ == "name" && !has_name_ && c == '"') {
    state_ = State::Name;
  } else if (is_arguments && has_name_ && !has_arguments_ && c == '{') {
    has_arguments_ = true;
    begin_arguments();
  } else if (is_arguments || key_ == "name" || key_ == "function") {
    state_ = State::Lost;
  } else {
    state_ = State::Skip;
    depth_ = 0;
    ends_value(c);
  }
}

// Follows strings and brackets; whether this ends the outermost bracket.
bool CallScanner::ends_value(char c) {
  if (in_string_) {
    if (is_escaped_) {
      is_escaped_ = false;
    } else if (c == '\\') {
      is_escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
    return false;
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if (c != '}' && c != ']') return false;
  if (depth_ > 0) --depth_;
  return depth_ == 0;
}

void CallScanner::begin_arguments() {
  calls_.push_back({name_, "{"});
  depth_ = 1;
  state_ = State::Arguments;
}

}  // namespace moiety::text
