// A template's text to tokens, with the white space control of transformers: trim_blocks and lstrip_blocks are on, a last
// newline goes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jinja/budget.h"

namespace moiety::jinja {

struct Token {
  enum class Kind { Data, PrintBegin, PrintEnd, BlockBegin, BlockEnd, Name, String, Integer, Float, Operator, End };
  Kind kind;
  std::string text;  // of Data and String what it stands for, of the others as it is written
  int line;

  bool is(Kind k, std::string_view t) const { return kind == k && text == t; }
  bool is_operator(std::string_view t) const { return is(Kind::Operator, t); }
  bool is_name(std::string_view t) const { return is(Kind::Name, t); }
};

// Ends with one End token. Throws Fault(Syntax). Linear in the source.
std::vector<Token> tokenize(std::string_view source);

}  // namespace moiety::jinja
