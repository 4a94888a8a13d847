// Reads the requests of OpenAI's /v1/responses.
#pragma once

#include "server/answers.h"
#include "server/conversation.h"
#include "server/fields.h"

namespace moiety::server {

struct ResponseRequest {
  AnswerRequest answer;
  OrderedJson messages;  // the conversation without the instructions, which do not carry over to the next response
  bool stream = false, store = true;
  OrderedJson echoed;    // fields of the request that its response repeats
};

// Throws HttpError(400), 404 for a model that isn't ours or a previous response that isn't there.
ResponseRequest read_response_request(const Service& service, const OrderedJson& body);

}  // namespace moiety::server
