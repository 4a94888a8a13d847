// Prompts that are no conversations: a text, tokens (with texts among them), or a list of either.
#pragma once

#include <string>
#include <vector>

#include "server/answer_request.h"
#include "server/fields.h"
#include "server/service.h"

namespace moiety::server {

struct PlainPrompt {
  std::vector<int32_t> tokens;
  std::string text;
};

// Texts begin with the tokens that the tokenizer puts before texts. Throws HttpError(400) for what is no prompt, for one that is
// empty or too long, and for more of them than a request may have answers.
std::vector<PlainPrompt> read_prompts(const Service& service, const Fields& body, const char* name);

// What continues them: until one of the model's own ends.
std::vector<Prompt> continued(const Service& service, const std::vector<PlainPrompt>& prompts);

}  // namespace moiety::server
