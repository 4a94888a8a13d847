// What an answer must look like, as a request says it, before a grammar is made of it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ordered_json.h"
#include "engine/request.h"
#include "text/reply.h"

namespace moiety::server {

struct Tool {
  std::string name, description;
  OrderedJson parameters;  // a JSON schema of the arguments, or null

  bool operator==(const Tool&) const = default;
};

struct OutputRule {
  enum class Kind {
    Object,   // any JSON object
    Schema,   // a JSON value that `schema` describes
    Grammar,  // a text of `grammar`
    Calls,    // calls of `tools`, written as `format` marks them
  };
  Kind kind = Kind::Object;
  OrderedJson schema;
  std::string grammar;  // GBNF
  std::vector<Tool> tools;
  text::ReplyFormat format;
  bool several_calls = true;
  std::string field;  // of the request, for error sentences
};

// A constraint that lets only such answers through, which then end by one of the stop tokens. Throws Error(Input) for a schema or
// grammar that can't be used.
using ConstraintMaker = std::function<std::unique_ptr<engine::TokenConstraint>(const OutputRule&, std::span<const int32_t> stop_tokens)>;

}  // namespace moiety::server
