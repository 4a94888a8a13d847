// Rules for answers as grammars over a tokenizer's vocabulary.
#pragma once

#include "server/output_rule.h"
#include "text/tokenizer.h"

namespace moiety::server {

// The tokenizer must outlive it and what it makes. Any number of threads may call it; what it has compiled it keeps for the next
// request of the same rule.
ConstraintMaker grammar_constraints(const text::Tokenizer& tokenizer);

}  // namespace moiety::server
