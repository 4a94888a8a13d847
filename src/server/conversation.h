// Messages to the tokens of a prompt, by the model's chat template.
#pragma once

#include "base/ordered_json.h"
#include "server/answer_request.h"
#include "server/service.h"
#include "text/plain_marks.h"

namespace moiety::server {

// In the words of OpenAI's chat completions, which is what templates know. Protocols make one of what they get; nothing in it has
// been looked at yet but what the protocol names.
struct Conversation {
  OrderedJson messages = OrderedJson::array();
  OrderedJson tools = OrderedJson::array();  // that the template is shown
  OrderedJson settings = OrderedJson::object();  // more names for the template, such as enable_thinking
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the answer goes on where the last message ends
};

// Texts of the conversation that spell special tokens are told as plain. Throws HttpError(400) for a model without a template, and for
// what the template refuses.
text::PlainMarked render(const Service& service, const Conversation& conversation);

// The prompt of a conversation, and what its answers look like.
Prompt make_prompt(const Service& service, const Conversation& conversation);

// Throws HttpError(400, context_length_exceeded) unless an answer has room after it.
void check_length(const Service& service, size_t prompt_tokens, const char* param);

// Throws HttpError(404, model_not_found) unless `name` is one of ours; an empty one is.
void check_model(const Service& service, const std::string& name);

}  // namespace moiety::server
