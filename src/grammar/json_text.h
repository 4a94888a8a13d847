// JSON as grammar (RFC 8259): what schemas are put together from. White space is bounded: none, one space, or a line break and
// up to 32 spaces, so that no model fills its answer with it; numbers have at most 16 digits before and after the point.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string_view>

#include "grammar/grammar.h"

namespace moiety::grammar {

class JsonText {
 public:
  // `grammar` must outlive it.
  explicit JsonText(Grammar& grammar) : grammar_(grammar) {}

  Expr value();   // any
  Expr object();  // any
  Expr array();   // any
  Expr string(uint32_t min_length = 0, uint32_t max_length = kUnlimited);  // in characters
  Expr integer();
  Expr number();
  Expr boolean();
  Expr null();

  Expr space();
  Expr character();  // any one of a string, as itself or escaped
  // One of these characters of a string, escaped only if it must be.
  Expr character_of(const CodeSet& set);
  // A string of exactly these characters, escaped where it must be. The text must be UTF-8.
  Expr string_of(std::string_view text);
  // A string that is none of `names`, with nothing escaped that needn't be.
  Expr string_but(std::span<const std::string_view> names);

  Expr member(Expr key, Expr value);
  // open item, item, … close: at least `min` items and at most `max`.
  Expr list(std::string_view open, Expr item, std::string_view close, uint32_t min = 0, uint32_t max = kUnlimited);
  // "," and what goes before the next item.
  Expr comma();

  Grammar& grammar() { return grammar_; }

 private:
  enum class Part { Value, Object, Array, String, Integer, Number, Space, Character, OwnCharacter };
  template <class Make>
  Expr once(Part part, const char* name, Make make);

  Grammar& grammar_;
  std::map<Part, RuleId> rules_;
};

}  // namespace moiety::grammar
