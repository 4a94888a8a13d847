// Prompts that are no conversations: a text, tokens (with texts among them), or a list of either.
#pragma once

#include <string>
#include <vector>

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

}  // namespace moiety::server
