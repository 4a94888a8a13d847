// What llama.cpp's server says of how it generates, in its words.
#pragma once

#include "base/ordered_json.h"
#include "server/answer_request.h"
#include "server/service.h"

namespace moiety::server {

OrderedJson generation_settings_json(const Service& service, const AnswerRequest& request);

}  // namespace moiety::server
