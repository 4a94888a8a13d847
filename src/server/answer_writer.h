// One answer's tokens to what is shown of them, token by token. Knows nothing of threads or networks.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "server/answers.h"
#include "server/stop_strings.h"
#include "text/reply.h"
#include "text/text_stream.h"

namespace moiety::server {

class AnswerWriter {
 public:
  // The tokenizer must outlive it.
  AnswerWriter(const text::Tokenizer& tokenizer, const AnswerRequest& request, const Prompt& prompt, size_t choice);

  AnswerEvent on_prompt(std::span<const engine::NewToken> tokens) const;
  AnswerEvent on_token(const engine::NewToken& token);
  AnswerEvent on_end(const engine::Outcome& outcome);
  // False after a stop string, or a call that was to be the only one.
  bool wants_more() const { return !stops_.found() && !has_enough_calls(); }

 private:
  bool has_enough_calls() const { return !parallel_calls_ && calls_ > 0; }
  void show(const std::string& text, AnswerEvent& event);
  void show(const std::vector<text::ReplyPart>& parts, AnswerEvent& event);
  void show_calls(const std::vector<text::ToolCall>& calls, AnswerEvent& event);
  void show_text(AnswerPart::Kind kind, std::string_view text, AnswerEvent& event);
  void show_tokens(size_t up_to, AnswerEvent& event);

  const text::Tokenizer* tokenizer_;
  std::optional<text::ReplyFormat> format_;
  std::optional<text::ReplyParser> parser_;
  text::TextStream stream_;
  StopStrings stops_;
  bool takes_calls_, parallel_calls_, shows_tokens_, wants_none_;
  size_t choice_;

  size_t text_bytes_ = 0, text_chars_ = 0;  // of the text so far
  size_t waiting_bytes_ = 0;                // of tokens since, whose text has not come yet
  size_t shown_bytes_ = 0;                  // of it, what no stop string can take back
  struct Held {
    ShownToken token;
    size_t end;  // of its text
  };
  std::deque<Held> held_;  // tokens whose text is held back
  // White space that goes if a marker follows, and before it, after a marker.
  std::string blank_;
  bool after_marker_ = false;
  AnswerPart::Kind kind_ = AnswerPart::Kind::Content;
  struct OpenCall {
    std::string id;
    size_t shown;  // bytes of its arguments
  };
  std::vector<OpenCall> open_;  // calls of the block that is being written, as far as they were shown
  size_t calls_ = 0, reasoning_tokens_ = 0;  // calls: that are whole
};

}  // namespace moiety::server
