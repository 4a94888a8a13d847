// GBNF, the grammar language of llama.cpp (its grammars/README.md describes it): rules of quoted texts, character classes,
// alternatives, groups and repetitions; `root` is the whole text. docs/grammar.md says what is read and what is refused.
#pragma once

#include <string_view>

#include "grammar/grammar.h"

namespace moiety::grammar {

// Throws Error(Input) that names the line.
Grammar parse_gbnf(std::string_view source);

}  // namespace moiety::grammar
