// Reads the requests of Anthropic's /v1/messages.
#pragma once

#include "server/answers.h"
#include "server/conversation.h"
#include "server/fields.h"

namespace moiety::server {

struct MessageRequest {
  AnswerRequest answer;
  bool stream = false;
};

// Throws HttpError(400), 404 for a model that isn't ours.
MessageRequest read_message_request(const Service& service, const OrderedJson& body);

// Of the prompt that the request's messages make. Throws as above.
size_t count_tokens(const Service& service, const OrderedJson& body);

}  // namespace moiety::server
