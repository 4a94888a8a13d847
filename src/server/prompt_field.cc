#include "server/prompt_field.h"

#include <algorithm>

#include "server/conversation.h"

namespace moiety::server {
namespace {

PlainPrompt read_prompt(const Service& service, const Fields& body, const char* name, const OrderedJson& value) {
  PlainPrompt prompt;
  if (value.is_string()) {
    prompt.text = value.get<std::string>();
    prompt.tokens = service.tokenizer.encode(prompt.text, true);
  } else if (value.is_array()) {
    const int vocabulary = service.engine.spec().vocab_size;
    for (const OrderedJson& token : value) {
      if (token.is_string()) {
        const std::vector<int32_t> more = service.tokenizer.encode(token.get<std::string>(), prompt.tokens.empty());
        prompt.tokens.insert(prompt.tokens.end(), more.begin(), more.end());
        continue;
      }
      const bool right = token.is_number_integer() && token.get<int64_t>() >= 0 && token.get<int64_t>() < vocabulary;
      if (!right) body.wrong(name, fmt::format("must have token ids from 0 to {}, found {}", vocabulary - 1, shown(token)));
      prompt.tokens.push_back(token.get<int32_t>());
    }
    prompt.text = service.tokenizer.decode(prompt.tokens, false);
  } else {
    body.wrong(name, fmt::format("must be a text, a list of token ids, or a list of such, found {}", shown(value)));
  }
  check_length(service, prompt.tokens.size(), name);
  return prompt;
}

}  // namespace

std::vector<PlainPrompt> read_prompts(const Service& service, const Fields& body, const char* name) {
  const OrderedJson& value = body.need(name);
  const bool is_list_of_prompts = value.is_array() && !value.empty() && !value[0].is_number();
  if (!is_list_of_prompts) return {read_prompt(service, body, name, value)};
  if (value.size() > service.limits.answers) body.wrong(name, fmt::format("must have at most {} prompts", service.limits.answers));
  std::vector<PlainPrompt> prompts;
  for (const OrderedJson& item : value) prompts.push_back(read_prompt(service, body, name, item));
  return prompts;
}

std::vector<Prompt> continued(const Service& service, const std::vector<PlainPrompt>& prompts) {
  const std::vector<int>& ends = service.engine.spec().eos_tokens;
  std::vector<Prompt> all;
  for (const PlainPrompt& prompt : prompts) all.push_back({prompt.tokens, {ends.begin(), ends.end()}, {}});
  return all;
}

}  // namespace moiety::server
