#include "text/reply.h"

#include <algorithm>
#include <utility>

#include "jinja/unicode.h"

namespace moiety::text {
namespace {

using Kind = ReplyPart::Kind;

constexpr const char *kStart = "<|start|>", *kChannel = "<|channel|>", *kMessage = "<|message|>", *kConstrain = "<|constrain|>";
constexpr std::string_view kEnds[] = {"<|end|>", "<|return|>", "<|call|>"};
constexpr size_t kLongestHeader = 1000;

bool is_blank(std::string_view text) { return jinja::strip_space(text).empty(); }

// How many bytes at the end of the text could be the beginning of a marker.
size_t held_back(std::string_view text, const std::vector<std::string_view>& markers) {
  size_t held = 0;
  for (const std::string_view marker : markers) {
    for (size_t bytes = std::min(marker.size() - 1, text.size()); bytes > held; --bytes) {
      if (text.ends_with(marker.substr(0, bytes))) {
        held = bytes;
        break;
      }
    }
  }
  return held;
}

std::string_view word_after(std::string_view text, std::string_view mark) {
  const size_t at = text.find(mark);
  if (at == text.npos) return {};
  text.remove_prefix(at + mark.size());
  return text.substr(0, std::min(text.find_first_of(" \n<"), text.size()));
}

}  // namespace

bool ReplyFormat::is_marker(std::string_view text) const {
  if (text.empty()) return false;
  const auto has = [&](std::string_view marker) { return marker == text; };
  if (has(think_open) || has(think_close)) return true;
  for (const Block& block : tool_blocks) {
    // Everything inside a DeepSeek block is written in special tokens as well.
    if (has(block.open) || has(block.close) || (block.open.starts_with("<｜tool") && text.starts_with("<｜tool"))) return true;
  }
  if (channels) {
    for (const std::string_view marker : {kStart, kChannel, kMessage, kConstrain}) {
      if (has(marker)) return true;
    }
    for (const std::string_view end : kEnds) {
      if (has(end)) return true;
    }
  }
  return std::any_of(dropped.begin(), dropped.end(), has);
}

ReplyFormat reply_format(std::string_view source, std::string_view prompt) {
  ReplyFormat format;
  const auto names = [&](std::string_view marker) { return source.find(marker) != source.npos; };
  format.channels = names(kChannel) && names(kMessage);
  if (names("[THINK]")) format.think_open = "[THINK]", format.think_close = "[/THINK]";
  format.begins_in_reasoning = jinja::strip_space(prompt).ends_with(format.think_open);
  if (names("<tool_call>")) format.tool_blocks.push_back({"<tool_call>", "</tool_call>"});
  if (names("<｜tool▁calls▁begin｜>")) format.tool_blocks.push_back({"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"});
  if (names("[TOOL_CALLS]")) format.tool_blocks.push_back({"[TOOL_CALLS]", ""});
  if (names("<|tool_call|>")) format.tool_blocks.push_back({"<|tool_call|>", ""});
  if (names("<|python_tag|>")) {
    format.tool_blocks.push_back({"<|python_tag|>", ""});
    format.bare_json_calls = true;
  }
  if (names("<response>")) format.dropped = {"<response>", "</response>"};
  return format;
}

ReplyParser::ReplyParser(ReplyFormat format) : format_(std::move(format)) {
  state_ = format_.channels ? State::Header : format_.begins_in_reasoning ? State::Reasoning : State::Content;
}

std::vector<ReplyPart> ReplyParser::push(std::string_view text) {
  pending_.erase(0, begin_);
  begin_ = 0;
  pending_ += text;
  while (advance(false)) {
  }
  return std::exchange(out_, {});
}

std::vector<ReplyPart> ReplyParser::finish() {
  while (begin_ < pending_.size() && advance(true)) {
  }
  return std::exchange(out_, {});
}

// One step; false when more text is needed.
bool ReplyParser::advance(bool at_end) {
  switch (state_) {
    case State::Reasoning:
      return in_reasoning(at_end);
    case State::Content:
      return in_content(at_end);
    case State::Tool:
      return in_tool(at_end);
    case State::Header:
      return in_header(at_end);
    case State::Channel:
      return in_channel(at_end);
  }
  return false;
}

void ReplyParser::give(Kind kind, size_t bytes) {
  if (bytes == 0) return;
  const std::string_view text = std::string_view(pending_).substr(begin_, bytes);
  if (kind == Kind::Content) is_blank_ = is_blank_ && is_blank(text);
  if (!out_.empty() && out_.back().kind == kind && kind != Kind::ToolCalls) {
    out_.back().text += text;
  } else {
    out_.push_back({kind, std::string(text), {}});
  }
  begin_ += bytes;
}

// Everything that is pending, but for what could become one of the markers.
void ReplyParser::give_but(Kind kind, const std::vector<std::string_view>& markers, bool at_end) {
  const std::string_view text = std::string_view(pending_).substr(begin_);
  give(kind, text.size() - (at_end ? 0 : held_back(text, markers)));
}

bool ReplyParser::in_reasoning(bool at_end) {
  const std::string_view text = std::string_view(pending_).substr(begin_);
  const size_t close = text.find(format_.think_close);
  if (close == text.npos) {
    give_but(Kind::Reasoning, {format_.think_close}, at_end);
    return false;
  }
  give(Kind::Reasoning, close);
  give(Kind::Marker, format_.think_close.size());
  state_ = State::Content;
  return true;
}

bool ReplyParser::in_content(bool at_end) {
  const std::string_view text = std::string_view(pending_).substr(begin_);
  if (format_.bare_json_calls && is_blank_) {
    const size_t first = text.size() - jinja::strip_space(text, true, false).size();
    if (first < text.size() && text[first] == '{') {
      give(Kind::Content, first);
      begin_block(0, "");
      return true;
    }
  }
  std::vector<std::string_view> markers = {format_.think_open};
  for (const auto& block : format_.tool_blocks) markers.push_back(block.open);
  for (const auto& marker : format_.dropped) markers.push_back(marker);

  size_t best = text.npos, which = 0;
  for (size_t i = 0; i < markers.size(); ++i) {
    const size_t found = text.find(markers[i]);
    // Reasoning comes first or not at all: later on, the tag is something that the answer talks about.
    if (i == 0 && found != text.npos && !(is_blank_ && is_blank(text.substr(0, found)))) continue;
    if (found < best) best = found, which = i;
  }
  if (best == text.npos) {
    give_but(Kind::Content, markers, at_end);
    return false;
  }
  give(Kind::Content, best);
  if (which > 0 && which <= format_.tool_blocks.size()) {
    begin_block(markers[which].size(), format_.tool_blocks[which - 1].close);
    return true;
  }
  give(Kind::Marker, markers[which].size());
  if (which == 0) state_ = State::Reasoning;
  return true;
}

void ReplyParser::begin_block(size_t opening, std::string close) {
  opening_ = scanned_ = read_ = opening;
  close_ = std::move(close);
  scanner_ = CallScanner();
  state_ = State::Tool;
}

// Calls in the block's text up to there.
void ReplyParser::scan(size_t up_to) {
  if (!format_.calls_in_pieces || up_to <= read_) return;
  scanner_.push(std::string_view(pending_).substr(begin_ + read_, up_to - read_));
  read_ = up_to;
}

bool ReplyParser::in_tool(bool at_end) {
  const std::string_view text = std::string_view(pending_).substr(begin_);
  const size_t close = close_.empty() ? text.npos : text.find(close_, scanned_);
  if (close != text.npos) {
    scan(close);
    end_block(close + close_.size());
    return true;
  }
  scan(text.size() - (at_end || close_.empty() ? 0 : held_back(text, {close_})));
  if (at_end) {
    end_block(text.size());
    return true;
  }
  scanned_ = text.size() > close_.size() ? std::max(opening_, text.size() - close_.size()) : opening_;
  return false;
}

void ReplyParser::end_block(size_t bytes) {
  const std::string_view block = std::string_view(pending_).substr(begin_, bytes);
  std::string_view inner = block.substr(opening_);
  if (!close_.empty() && inner.ends_with(close_)) inner.remove_suffix(close_.size());
  give_calls(parse_tool_calls(inner), bytes);
  state_ = State::Content;
}

// Those that have been told of are what they were told to be.
void ReplyParser::give_calls(std::vector<ToolCall> calls, size_t bytes) {
  const std::vector<ToolCall>& told = scanner_.calls();
  calls.resize(std::max(calls.size(), told.size()));
  std::ranges::copy(told, calls.begin());
  give(calls.empty() ? Kind::Content : Kind::ToolCalls, bytes);
  if (!calls.empty()) out_.back().calls = std::move(calls);
  scanner_ = CallScanner();
  scanned_ = 0;
}

// gpt-oss: what stands before <|message|> says whom the text is for.
bool ReplyParser::in_header(bool at_end) {
  const std::string_view text = std::string_view(pending_).substr(begin_);
  const size_t message = text.find(kMessage);
  const auto may_begin = [&](std::string_view mark) { return mark.starts_with(text.substr(0, mark.size())); };
  const bool may_be_header = may_begin(kStart) || may_begin(kChannel) || may_begin(" to=");
  // With room for a marker that is cut, so that the decision does not depend on where.
  const bool is_too_long = message == text.npos ? text.size() > kLongestHeader + 20 : message > kLongestHeader;
  if (!may_be_header || is_too_long) {
    channel_ = Kind::Content;
    call_name_.clear();
    state_ = State::Channel;
    if (may_be_header) give(Kind::Content, 1);  // its mark would be taken for the end of the channel
    return true;
  }
  if (message == text.npos) {
    if (at_end) give(Kind::Content, text.size());
    return false;
  }
  const size_t bytes = message + std::string_view(kMessage).size();
  const std::string_view header = text.substr(0, message), channel = word_after(header, kChannel);
  std::string_view name = word_after(header, "to=");
  if (name.starts_with("functions.")) name.remove_prefix(10);
  call_name_ = name;
  channel_ = channel == "analysis" ? Kind::Reasoning : Kind::Content;
  state_ = State::Channel;
  if (call_name_.empty()) {
    give(Kind::Marker, bytes);
  } else {
    opening_ = scanned_ = read_ = bytes;  // given with the call
    scanner_ = CallScanner(call_name_);
  }
  return true;
}

bool ReplyParser::in_channel(bool at_end) {
  const std::string_view text = std::string_view(pending_).substr(begin_);
  const bool is_call = !call_name_.empty();
  std::vector<std::string_view> markers(std::begin(kEnds), std::end(kEnds));
  markers.insert(markers.end(), {kStart, kChannel});
  size_t end = text.npos, which = 0;
  for (size_t i = 0; i < markers.size(); ++i) {
    const size_t found = text.find(markers[i], is_call ? scanned_ : 0);
    if (found < end) end = found, which = i;
  }
  if (!is_call) {
    if (end == text.npos) {
      give_but(channel_, markers, at_end);
      return false;
    }
    give(channel_, end);
  } else {
    if (end == text.npos && !at_end) {
      scan(text.size() - held_back(text, markers));
      scanned_ = text.size() > 12 ? std::max(opening_, text.size() - 12) : opening_;
      return false;
    }
    const size_t bytes = std::min(end, text.size());
    const std::string arguments(text.substr(opening_, bytes - opening_));
    auto calls = parse_tool_calls("{\"name\": \"f\", \"arguments\": " + arguments + "}");
    if (!calls.empty()) calls[0].name = call_name_;
    scan(bytes);
    give_calls(std::move(calls), bytes);
    call_name_.clear();
  }
  if (begin_ < pending_.size() && which < std::size(kEnds)) give(Kind::Marker, markers[which].size());
  state_ = State::Header;
  return true;
}

void Reply::add(const ReplyPart& part) {
  if (part.kind == Kind::Reasoning) reasoning += part.text;
  if (part.kind == Kind::Content) content += part.text;
  tool_calls.insert(tool_calls.end(), part.calls.begin(), part.calls.end());
}

void Reply::trim() {
  reasoning = std::string(jinja::strip_space(reasoning));
  content = std::string(jinja::strip_space(content));
}

}  // namespace moiety::text
