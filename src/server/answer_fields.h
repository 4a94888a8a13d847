// The fields of a request that say how tokens are drawn and what an answer may be: the same in all protocols.
#pragma once

#include <vector>

#include "server/answer_request.h"
#include "server/fields.h"
#include "server/service.h"

namespace moiety::server {

// A protocol's own rows, and after them those that are read here: temperature and its kind, seed, stop, logit_bias, grammar, router,
// priority, speculate.
std::vector<Field> with_answer_fields(std::vector<Field> rows);

// Of a response_format.
FieldTable format_fields();

// Takes them; what is not there is as the service has it. Throws HttpError(400).
void read_answer_fields(const Service& service, const Fields& fields, AnswerRequest& request);

// Adds texts that end an answer. Throws HttpError(400) if there are too many of them, or one is empty or long.
void add_stop_strings(const Fields& fields, const char* name, AnswerRequest& request);

// {"type": "text" | "json_object" | "json_schema", "json_schema": {"schema": {…}}}, or the schema beside the type as
// /v1/responses has it. Throws HttpError(400), also if there is a rule already.
void read_response_format(const Fields& fields, const char* name, const OrderedJson& format, AnswerRequest& request);

}  // namespace moiety::server
