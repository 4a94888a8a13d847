// Reads the requests of /v1/chat/completions.
#pragma once

#include "server/answer_request.h"
#include "server/conversation.h"
#include "server/fields.h"
#include "server/tools.h"

namespace moiety::server {

struct ChatRequest {
  AnswerRequest answer;
  bool stream = false, include_usage = false;
};

// The conversation of a body: messages and what the template is shown beside them. Throws HttpError(400).
Conversation read_conversation(const Fields& body);

// Throws HttpError(400), 404 for a model that isn't ours.
ChatRequest read_chat_request(const Service& service, const OrderedJson& body);

}  // namespace moiety::server
