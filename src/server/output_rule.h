// What an answer must look like, as a request says it, before a grammar is made of it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ordered_json.h"
#include "engine/request.h"

namespace moiety::server {

struct OutputRule {
  // Text, a JSON value that a schema describes, text.
  struct Form {
    std::string before;
    OrderedJson schema;
    std::string after;
  };
  std::vector<Form> forms;  // the answer is one of these, if there is no grammar
  std::string grammar;      // GBNF
  std::string field;  // of the request, for error sentences

  bool operator==(const OutputRule&) const = default;
};

// A constraint that lets only such answers through, which then end by one of the stop tokens. Throws Error(Input) for a schema or
// grammar that can't be used.
using ConstraintMaker = std::function<std::unique_ptr<engine::TokenConstraint>(const OutputRule&, std::span<const int32_t> stop_tokens)>;

}  // namespace moiety::server
