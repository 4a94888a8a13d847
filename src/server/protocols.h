// What answers each endpoint: a protocol's JSON to one common request, and the common events to what the protocol sends.
#pragma once

#include <vector>

#include "server/exchange.h"
#include "server/fields.h"
#include "server/service.h"

namespace moiety::server {

Task<> chat_completions(Service& service, Exchange& exchange);
Task<> count_chat_tokens(Service& service, Exchange& exchange);
Task<> completions(Service& service, Exchange& exchange);
Task<> llama_completion(Service& service, Exchange& exchange);
Task<> responses(Service& service, Exchange& exchange);
Task<> count_response_tokens(Service& service, Exchange& exchange);
Task<> fetch_response(Service& service, Exchange& exchange);
Task<> delete_response(Service& service, Exchange& exchange);
Task<> messages(Service& service, Exchange& exchange);
Task<> count_message_tokens(Service& service, Exchange& exchange);
Task<> embeddings(Service& service, Exchange& exchange);
Task<> list_models(Service& service, Exchange& exchange);
Task<> describe_model(Service& service, Exchange& exchange);
Task<> llama_props(Service& service, Exchange& exchange);
Task<> llama_slots(Service& service, Exchange& exchange);
Task<> tokenize(Service& service, Exchange& exchange);
Task<> detokenize(Service& service, Exchange& exchange);
Task<> apply_template(Service& service, Exchange& exchange);

// The fields of their requests' bodies.
FieldTable chat_fields();
FieldTable completion_fields();
FieldTable llama_completion_fields();
FieldTable response_fields();
FieldTable message_fields();
FieldTable embedding_fields();
FieldTable tokenize_fields();
FieldTable detokenize_fields();

}  // namespace moiety::server
