// A model's answer taken apart as it comes: reasoning, content, tool calls. How a family marks them is found in its chat
// template. Text may come in pieces of any size; a marker that is cut across pieces is never shown.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/call_scanner.h"

namespace moiety::text {

struct ReplyFormat {
  struct Block {
    std::string open, close;  // an empty `close`: to the end of the answer
  };
  std::string think_open = "<think>", think_close = "</think>";
  bool begins_in_reasoning = false;  // the prompt has opened it
  std::vector<Block> tool_blocks;
  bool bare_json_calls = false;      // an answer that is a JSON object with a name is a call (Llama 3.1)
  bool channels = false;             // gpt-oss: <|channel|>NAME<|message|>…<|end|>
  std::vector<std::string> dropped;  // markers that mean nothing by themselves
  // Calls are told of as they are written (ReplyParser::open_calls). One whose arguments have begun is a call then, whatever becomes of it.
  bool calls_in_pieces = false;

  // Whether this text is a marker, or part of one, so that a special token of this text must not be left out.
  bool is_marker(std::string_view text) const;
};

// `prompt` is what the template made of the conversation: it may end inside the reasoning.
ReplyFormat reply_format(std::string_view template_source, std::string_view prompt);

struct ReplyPart {
  enum class Kind { Reasoning, Content, Marker, ToolCalls };
  Kind kind;
  std::string text;  // as the model wrote it: all parts' texts joined are the answer
  std::vector<ToolCall> calls;
};

class ReplyParser {
 public:
  explicit ReplyParser(ReplyFormat format);

  // What is certain now.
  std::vector<ReplyPart> push(std::string_view text);
  // What is known of the block that is being written, if calls come in pieces: calls of which the part for the block will say the
  // same and more.
  const std::vector<ToolCall>& open_calls() const { return scanner_.calls(); }
  // The rest. A block that is not closed or makes no sense is given back as content.
  std::vector<ReplyPart> finish();

 private:
  enum class State { Reasoning, Content, Tool, Header, Channel };

  bool advance(bool at_end);
  bool in_content(bool at_end);
  bool in_reasoning(bool at_end);
  bool in_tool(bool at_end);
  bool in_header(bool at_end);
  bool in_channel(bool at_end);
  void give(ReplyPart::Kind kind, size_t bytes);
  void give_but(ReplyPart::Kind kind, const std::vector<std::string_view>& markers, bool at_end);
  void begin_block(size_t opening, std::string close);
  void scan(size_t up_to);
  void end_block(size_t bytes);
  void give_calls(std::vector<ToolCall> calls, size_t bytes);

  ReplyFormat format_;
  State state_;
  std::string pending_;
  size_t begin_ = 0;    // of what is pending in pending_
  size_t scanned_ = 0;  // of what is pending: no end of the block begins before
  bool is_blank_ = true;  // no content but white space so far
  std::string close_, call_name_;  // of the block
  size_t opening_ = 0;             // bytes of the block's opening marker
  CallScanner scanner_;
  size_t read_ = 0;  // bytes of the block that it has seen, and the opening marker
  ReplyPart::Kind channel_ = ReplyPart::Kind::Content;
  std::vector<ReplyPart> out_;
};

// Everything together, without the white space around.
struct Reply {
  std::string reasoning, content;
  std::vector<ToolCall> tool_calls;

  void add(const ReplyPart& part);
  void trim();
};

// The calls in a block's inner text, whatever of the published ways it is written in; empty if it makes no sense.
std::vector<ToolCall> parse_tool_calls(std::string_view inner);

}  // namespace moiety::text
