#include "server/answer_writer.h"

#include <algorithm>

#include "jinja/unicode.h"
#include "server/ids.h"
#include "text/reply_tokens.h"
#include "text/utf8.h"

namespace moiety::server {
namespace {

using Kind = AnswerPart::Kind;
using text::ReplyPart;

// Without the tools there are no calls: what looks like one is text.
std::optional<text::ReplyFormat> format_of(const AnswerRequest& request, const Prompt& prompt) {
  std::optional<text::ReplyFormat> format = prompt.format;
  if (!format) return format;
  format->calls_in_pieces = request.takes_calls && request.calls_in_pieces;
  if (!request.takes_calls) {
    format->tool_blocks.clear();
    format->bare_json_calls = false;
  }
  return format;
}

}  // namespace

AnswerWriter::AnswerWriter(const text::Tokenizer& tokenizer, const AnswerRequest& request, const Prompt& prompt, size_t choice)
    : tokenizer_(&tokenizer),
      format_(format_of(request, prompt)),
      stream_(tokenizer, !format_),
      stops_(request.stop),
      takes_calls_(request.takes_calls),
      parallel_calls_(request.parallel_calls),
      shows_tokens_(request.logprobs || request.shows_tokens),
      wants_none_(request.max_new_tokens == size_t{0}),
      choice_(choice) {
  if (format_) parser_.emplace(*format_);
  if (format_ && format_->begins_in_reasoning) {
    kind_ = Kind::Reasoning;
    after_marker_ = true;
  }
}

AnswerEvent AnswerWriter::on_prompt(std::span<const engine::NewToken> tokens) const {
  return {.choice = choice_, .prompt = {tokens.begin(), tokens.end()}};
}

AnswerEvent AnswerWriter::on_token(const engine::NewToken& token) {
  AnswerEvent event{.choice = choice_};
  if (wants_none_) return event;
  const bool is_text = !format_ || text::is_shown(token.token, *format_, *tokenizer_);
  const std::string text = is_text ? stream_.push(token.token) : std::string();
  // A token whose bytes don't come yet is part of a character, or of a run of bytes, which comes with a later one.
  const std::string_view bytes = tokenizer_->token_bytes(token.token);
  const size_t all = waiting_bytes_ + std::max<size_t>(bytes.size(), 1);
  const bool has_come = !bytes.empty() && text.ends_with(bytes);
  waiting_bytes_ = has_come ? 0 : all - std::min(all, text.size());
  if (shows_tokens_) held_.push_back({{token, text_chars_}, text_bytes_ + text.size() + waiting_bytes_});
  show(stops_.push(text), event);
  text_bytes_ += text.size();
  text_chars_ += text::count_characters(text);
  show_tokens(shown_bytes_, event);
  reasoning_tokens_ += kind_ == Kind::Reasoning;
  return event;
}

AnswerEvent AnswerWriter::on_end(const engine::Outcome& outcome) {
  using Stop = engine::Outcome::Stop;
  AnswerEvent event{.choice = choice_};
  if (wants_more()) {
    show(stops_.push(stream_.finish()), event);
    if (!stops_.found()) show(stops_.finish(), event);
  }
  if (parser_) show(parser_->finish(), event);
  if (!blank_.empty() && calls_ == 0) event.parts.push_back({kind_, std::exchange(blank_, {}), {}, {}});
  show_tokens(stops_.found() ? shown_bytes_ : std::string::npos, event);

  Ending ending{.stop_string = stops_.found(), .outcome = outcome, .reasoning_tokens = reasoning_tokens_};
  const bool is_whole = outcome.stop == Stop::StopToken || outcome.stop == Stop::Listener || stops_.found();
  ending.reason = !is_whole ? "length" : calls_ > 0 ? "tool_calls" : "stop";
  if (wants_none_) ending.reason = "length", ending.outcome.new_tokens = 0;
  event.ending = std::move(ending);
  return event;
}

void AnswerWriter::show(const std::string& text, AnswerEvent& event) {
  shown_bytes_ += text.size();
  if (parser_) {
    show(parser_->push(text), event);
    if (!has_enough_calls()) show_calls(parser_->open_calls(), event);
  } else if (!text.empty()) {
    event.parts.push_back({Kind::Content, text, {}, {}});
  }
}

void AnswerWriter::show(const std::vector<ReplyPart>& parts, AnswerEvent& event) {
  for (const ReplyPart& part : parts) {
    if (has_enough_calls()) return;
    switch (part.kind) {
      case ReplyPart::Kind::Reasoning:
        show_text(Kind::Reasoning, part.text, event);
        break;
      case ReplyPart::Kind::Content:
        show_text(Kind::Content, part.text, event);
        break;
      case ReplyPart::Kind::Marker:
        blank_.clear();
        after_marker_ = true;
        break;
      case ReplyPart::Kind::ToolCalls:
        if (!takes_calls_) {  // of a format where calls need no block (gpt-oss)
          show_text(Kind::Content, part.text, event);
          break;
        }
        show_calls(part.calls, event);
        calls_ += part.calls.size();
        open_.clear();
        break;
    }
  }
}

// What of these calls has not been shown yet; the first alone if there is to be one only.
void AnswerWriter::show_calls(const std::vector<text::ToolCall>& calls, AnswerEvent& event) {
  if (calls.empty()) return;
  blank_.clear();
  after_marker_ = true;
  const size_t shown = parallel_calls_ ? calls.size() : 1;
  for (size_t i = 0; i < shown; ++i) {
    const bool is_new = i == open_.size();
    if (is_new) open_.push_back({make_id("call_"), 0});
    std::string more = calls[i].arguments.substr(open_[i].shown);
    if (more.empty() && !is_new) continue;
    open_[i].shown = calls[i].arguments.size();
    event.parts.push_back({Kind::ToolCall, std::move(more), calls[i].name, open_[i].id, !is_new});
  }
}

// Of white space around markers nothing is shown, elsewhere all: it is held back until it is clear which it is.
void AnswerWriter::show_text(Kind kind, std::string_view text, AnswerEvent& event) {
  if (kind != kind_) {
    after_marker_ = true;
    blank_.clear();
    kind_ = kind;
  }
  if (after_marker_) text = jinja::strip_space(text, true, false);
  if (text.empty()) return;
  after_marker_ = false;
  const std::string_view solid = jinja::strip_space(text, false, true);
  if (!solid.empty()) {
    std::string shown = std::exchange(blank_, {}) + std::string(solid);
    if (!event.parts.empty() && event.parts.back().kind == kind) {
      event.parts.back().text += shown;
    } else {
      event.parts.push_back({kind, std::move(shown), {}, {}});
    }
  }
  blank_ += text.substr(solid.size());
}

void AnswerWriter::show_tokens(size_t up_to, AnswerEvent& event) {
  while (!held_.empty() && held_.front().end <= up_to) {
    event.tokens.push_back(std::move(held_.front().token));
    held_.pop_front();
  }
}

}  // namespace moiety::server
