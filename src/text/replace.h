// One text for another, everywhere: a step of normalisers and of decoders.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace moiety::text {

class Replacement {
 public:
  // Of matches of `pattern`, an Oniguruma expression or the text itself. Throws Error(Input) for an
  // expression that can't be compiled.
  Replacement(std::string pattern, bool is_regex, std::string content);

  // Appends `text` with all matches replaced. Only a regular expression needs the scratch.
  void append(std::string_view text, RegexScratch* scratch, std::string& out) const;

  bool is_regex() const { return regex_ != nullptr; }
  // Whether every match is one character, so that a text may come in parts.
  bool is_one_character() const { return one_character_; }

 private:
  std::string pattern_, content_;
  std::unique_ptr<Regex> regex_;  // null for a plain text
  bool one_character_ = false;
};

}  // namespace moiety::text
