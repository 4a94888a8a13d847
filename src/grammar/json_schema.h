// JSON schemas (drafts 7 to 2020-12) as grammars: the documents that a schema allows, written compactly or in the conventional
// way, the properties in the schema's order. docs/grammar.md has the list of what is honoured; what can't be is refused.
#pragma once

#include <string_view>

#include "base/ordered_json.h"
#include "grammar/grammar.h"

namespace moiety::grammar {

struct SchemaOptions {
  // Objects that name properties and don't speak of additionalProperties have no others (as OpenAI's "strict": true wants it), or
  // any others (as the standard has it). Objects that name none may have any.
  bool closed_objects = true;
  // Keywords that can't be honoured are passed over, not refused: for arguments of tools, which must parse before all.
  bool ignore_unsupported = false;
};

// Throw Error(Input) with the JSON pointer of what is refused or wrong.
Grammar json_schema_grammar(const OrderedJson& schema, const SchemaOptions& options = {});
// The same, as an expression of a grammar of one's own.
class JsonText;
Expr json_schema(JsonText& json, const OrderedJson& schema, const SchemaOptions& options);

// Any JSON object: what response_format json_object asks for.
Grammar json_object_grammar();

}  // namespace moiety::grammar
