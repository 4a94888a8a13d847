// The functions that a model may call, and what it must write to call one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/ordered_json.h"
#include "server/answer_request.h"

namespace moiety::server {

struct ToolChoice {
  enum class Kind { Auto, None, Required, Named };
  Kind kind = Kind::Auto;
  std::string name;
};

// As templates are shown them: OpenAI's form.
OrderedJson tools_json(const std::vector<Tool>& tools);

// Makes the answers calls of one of the tools, or of the one that is named, if that is the choice; says in the request that calls
// are looked for. `tools` and `choice` are as the request named them, `param` the choice's name. Throws HttpError(400) for a name
// that no tool has, and for a rule that is there already.
void apply_tools(const std::vector<Tool>& tools, const ToolChoice& choice, const char* param, AnswerRequest& request);

}  // namespace moiety::server
