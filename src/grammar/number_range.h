// Numbers between two bounds, as grammar: digit by digit, as one compares two numbers written one below the other.
#pragma once

#include <optional>

#include "grammar/grammar.h"

namespace moiety::grammar {

struct NumberRange {
  struct Bound {
    double value = 0;
    bool is_exclusive = false;
  };
  std::optional<Bound> low, high;

  // Both hold.
  void add_low(Bound bound);
  void add_high(Bound bound);
  bool is_limited() const { return low || high; }
  bool contains(double number) const;
};

// JSON's integers, or numbers without exponents, in the range; nothing() if there are none. At most 16 digits before the point
// and four beyond the bound's own after it. Throws Error(Input), which begins with `where`, for a bound that takes more.
Expr integers_in(Grammar& grammar, const NumberRange& range, std::string_view where);
Expr numbers_in(Grammar& grammar, const NumberRange& range, std::string_view where);

}  // namespace moiety::grammar
