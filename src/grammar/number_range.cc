#include "grammar/number_range.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "base/error.h"

namespace moiety::grammar {
namespace {

constexpr uint32_t kMostDigits = 16;
constexpr double kBeyond = 1e16;  // has more
constexpr size_t kMostFraction = 40;  // digits of a bound
// So many digits in all, and so many behind those of a bound, can be told apart when numbers are read as doubles.
constexpr size_t kTellingDigits = 15, kMostFinerDigits = 4;

// A bound of a magnitude: its digits before and after the point, none of those after at the end being 0.
struct Decimal {
  std::string whole, fraction;
  bool is_exclusive = false;
};

// A magnitude between two bounds, the lower one being 0 or more.
class Magnitudes {
 public:
  Magnitudes(Grammar& grammar, bool fractions) : grammar_(grammar), fractions_(fractions) {}

  Expr between(const Decimal& low, const std::optional<Decimal>& high) {
    // A number that is read as its bound does no harm unless the bound is excluded.
    const size_t used = std::max(low.is_exclusive ? size_of(low) : 0, high && high->is_exclusive ? size_of(*high) : 0);
    finer_digits_ = std::min(kMostFinerDigits, (kTellingDigits - std::min(used, kTellingDigits)) / 2);
    const std::string most(kMostDigits, '9');
    const std::string& end = high ? high->whole : most;
    std::vector<Expr> ways;
    if (high && low.whole == high->whole) {
      return join(text(low.whole), fraction_between(low.fraction, low.is_exclusive, high->fraction, high->is_exclusive));
    }
    // The lowest whole number, those between, the highest.
    if (is_less(end, low.whole)) return grammar_.nothing();
    ways.push_back(join(text(low.whole), fraction_from(low.fraction, low.is_exclusive)));
    const std::string first = plus_one(low.whole);
    const std::string last = high ? minus_one(end) : end;
    if (!is_less(last, first)) ways.push_back(join(wholes(first, last), any_fraction()));
    if (high) ways.push_back(join(text(end), fraction_to(high->fraction, high->is_exclusive)));
    return grammar_.choice(std::move(ways));
  }

 private:
  Expr text(std::string_view digits) { return grammar_.text(digits); }
  Expr digit(char first, char last) { return grammar_.set(CodeSet(static_cast<char32_t>(first), static_cast<char32_t>(last))); }
  Expr any_digits(size_t min, size_t max) {
    return grammar_.repeat(digit('0', '9'), static_cast<uint32_t>(min), static_cast<uint32_t>(max));
  }
  Expr join(Expr whole, Expr fraction) { return grammar_.sequence({whole, fraction}); }

  static size_t size_of(const Decimal& bound) { return bound.whole.size() + bound.fraction.size(); }
  static bool is_less(const std::string& a, const std::string& b) { return a.size() != b.size() ? a.size() < b.size() : a < b; }
  static std::string plus_one(std::string number) {
    size_t at = number.size();
    while (at > 0 && number[at - 1] == '9') number[--at] = '0';
    if (at == 0) return "1" + number;
    ++number[at - 1];
    return number;
  }
  static std::string minus_one(std::string number) {  // of a positive one
    size_t at = number.size();
    while (number[at - 1] == '0') number[--at] = '9';
    --number[at - 1];
    return number.size() > 1 && number[0] == '0' ? number.substr(1) : number;
  }

  // Whole numbers, length by length.
  Expr wholes(const std::string& first, const std::string& last) {
    std::vector<Expr> ways;
    for (size_t length = first.size(); length <= last.size(); ++length) {
      const std::string low = length == first.size() ? first : "1" + std::string(length - 1, '0');
      const std::string high = length == last.size() ? last : std::string(length, '9');
      ways.push_back(same_length(low, high));
    }
    return grammar_.choice(std::move(ways));
  }

  // Digits from `low` to `high`, which are of one length.
  Expr same_length(std::string_view low, std::string_view high) {
    if (low.empty()) return grammar_.empty();
    if (low.find_first_not_of('0') == low.npos && high.find_first_not_of('9') == high.npos) {
      return any_digits(low.size(), low.size());
    }
    if (low[0] == high[0]) return join(text(low.substr(0, 1)), same_length(low.substr(1), high.substr(1)));
    const std::string zeros(low.size() - 1, '0'), nines(low.size() - 1, '9');
    std::vector<Expr> ways = {join(text(low.substr(0, 1)), same_length(low.substr(1), nines)),
                              join(text(high.substr(0, 1)), same_length(zeros, high.substr(1)))};
    if (low[0] + 1 < high[0]) {
      ways.push_back(join(digit(static_cast<char>(low[0] + 1), static_cast<char>(high[0] - 1)),
                          any_digits(low.size() - 1, low.size() - 1)));
    }
    return grammar_.choice(std::move(ways));
  }

  // Fractions are compared digit by digit; one that has ended goes on with zeros.
  Expr with_point(Expr digits) { return join(text("."), digits); }
  Expr any_fraction() {
    return fractions_ ? grammar_.optional(with_point(any_digits(1, finer_digits_))) : grammar_.empty();
  }
  Expr zeros(uint32_t min) { return grammar_.repeat(text("0"), min, static_cast<uint32_t>(finer_digits_)); }
  Expr zeros_then_more() {
    return grammar_.sequence({zeros(0), digit('1', '9'), any_digits(0, finer_digits_)});
  }

  Expr fraction_from(std::string_view low, bool is_exclusive) {
    if (!fractions_) return is_exclusive ? grammar_.nothing() : grammar_.empty();
    if (low.empty()) return is_exclusive ? with_point(zeros_then_more()) : any_fraction();
    return with_point(digits_from(low, is_exclusive));
  }
  Expr digits_from(std::string_view low, bool is_exclusive) {
    if (low.empty()) return is_exclusive ? zeros_then_more() : any_digits(0, finer_digits_);
    std::vector<Expr> ways = {join(text(low.substr(0, 1)), digits_from(low.substr(1), is_exclusive))};
    if (low[0] < '9') ways.push_back(join(digit(static_cast<char>(low[0] + 1), '9'), any_digits(0, finer_digits_)));
    return grammar_.choice(std::move(ways));
  }

  // As it must be if both bounds have the same whole number; an end of the text is a fraction of zeros.
  Expr fraction_to(std::string_view high, bool is_exclusive) { return fraction_between({}, false, high, is_exclusive); }
  Expr fraction_between(std::string_view low, bool low_exclusive, std::string_view high, bool high_exclusive) {
    const bool none_will_do = low.empty() && !low_exclusive && !(high.empty() && high_exclusive);
    if (!fractions_) return none_will_do ? grammar_.empty() : grammar_.nothing();
    // At least one digit stands after the point.
    const Expr some = with_point(digits_between(low, low_exclusive, high, high_exclusive, true));
    return none_will_do ? grammar_.optional(some) : some;
  }
  Expr digits_between(std::string_view low, bool low_exclusive, std::string_view high, bool high_exclusive, bool is_first) {
    std::vector<Expr> ways;
    const bool low_done = low.empty(), high_done = high.empty();
    if (high_done) {
      // Nothing but zeros is as much as that.
      if (!low_done || low_exclusive || high_exclusive) return grammar_.nothing();
      return zeros(is_first ? 1 : 0);
    }
    const char first = low_done ? '0' : low[0], last = high[0];
    const std::string_view low_rest = low_done ? low : low.substr(1), high_rest = high.substr(1);
    if (first > last) return grammar_.nothing();
    if (low_done && !low_exclusive && !is_first) ways.push_back(grammar_.empty());
    if (first == last) {
      ways.push_back(join(digit(first, first), digits_between(low_rest, low_exclusive, high_rest, high_exclusive, false)));
      return grammar_.choice(std::move(ways));
    }
    ways.push_back(join(digit(first, first), digits_from(low_rest, low_exclusive)));
    if (first + 1 < last) {
      ways.push_back(join(digit(static_cast<char>(first + 1), static_cast<char>(last - 1)), any_digits(0, finer_digits_)));
    }
    ways.push_back(join(digit(last, last), digits_between({}, false, high_rest, high_exclusive, false)));
    return grammar_.choice(std::move(ways));
  }

  Grammar& grammar_;
  const bool fractions_;
  size_t finer_digits_ = 0;
};

Decimal decimal_of(NumberRange::Bound bound, std::string_view where) {
  // The shortest digits that are this double, never with an exponent.
  char buffer[400];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, std::abs(bound.value), std::chars_format::fixed);
  const std::string_view digits(buffer, static_cast<size_t>(result.ptr - buffer));
  const size_t point = digits.find('.');
  Decimal decimal{std::string(digits.substr(0, point)), {}, bound.is_exclusive};
  if (point != digits.npos) decimal.fraction = digits.substr(point + 1);
  while (decimal.fraction.ends_with('0')) decimal.fraction.pop_back();
  require(!bound.is_exclusive || bound.value == 0 || decimal.whole.size() + decimal.fraction.size() + 2 <= kTellingDigits,
          "{}: an exclusive bound of more than {} digits is not supported", where, kTellingDigits - 2);
  require(decimal.fraction.size() <= kMostFraction, "{}: a bound with more than {} digits after the point", where, kMostFraction);
  return decimal;
}

using Bound = std::optional<NumberRange::Bound>;

// One half of the number line, from `low` (0 if there is none or it is below) to `high`, both as magnitudes.
Expr half(Grammar& grammar, bool fractions, Bound low, Bound high, std::string_view where) {
  if (high && (high->value < 0 || (high->value == 0 && high->is_exclusive))) return grammar.nothing();
  if (low && low->value < 0) low.reset();
  if (low && high && (low->value > high->value || (low->value == high->value && (low->is_exclusive || high->is_exclusive)))) {
    return grammar.nothing();
  }
  require(!low || low->value < kBeyond, "{}: a bound of more than {} digits", where, kMostDigits);
  const Decimal from = low ? decimal_of(*low, where) : Decimal{"0", {}, false};
  std::optional<Decimal> to;
  if (high && high->value < kBeyond) to = decimal_of(*high, where);
  return Magnitudes(grammar, fractions).between(from, to);
}

Bound negative(const Bound& bound) {
  if (!bound) return bound;
  return NumberRange::Bound{-bound->value, bound->is_exclusive};
}

Expr both_halves(Grammar& grammar, bool fractions, const NumberRange& range, std::string_view where) {
  const Expr positive = half(grammar, fractions, range.low, range.high, where);
  Bound least = negative(range.high);
  if (!least || least->value <= 0) least = NumberRange::Bound{0, true};  // no -0
  const Expr mirrored = half(grammar, fractions, least, negative(range.low), where);
  return grammar.choice({positive, grammar.sequence({grammar.text("-"), mirrored})});
}

}  // namespace

void NumberRange::add_low(Bound bound) {
  if (!low || bound.value > low->value || (bound.value == low->value && bound.is_exclusive)) low = bound;
}

void NumberRange::add_high(Bound bound) {
  if (!high || bound.value < high->value || (bound.value == high->value && bound.is_exclusive)) high = bound;
}

bool NumberRange::contains(double number) const {
  if (low && (number < low->value || (number == low->value && low->is_exclusive))) return false;
  return !high || number < high->value || (number == high->value && !high->is_exclusive);
}

Expr integers_in(Grammar& grammar, const NumberRange& range, std::string_view where) {
  // Bounds become whole numbers that are themselves allowed.
  NumberRange whole;
  if (range.low) {
    const double up = std::ceil(range.low->value);
    whole.low = NumberRange::Bound{up == range.low->value && range.low->is_exclusive ? up + 1 : up, false};
  }
  if (range.high) {
    const double down = std::floor(range.high->value);
    whole.high = NumberRange::Bound{down == range.high->value && range.high->is_exclusive ? down - 1 : down, false};
  }
  return both_halves(grammar, false, whole, where);
}

Expr numbers_in(Grammar& grammar, const NumberRange& range, std::string_view where) {
  return both_halves(grammar, true, range, where);
}

}  // namespace moiety::grammar
