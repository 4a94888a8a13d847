// What several JSON schemas that hold at the same time say together of a value: keyword by keyword, without combinators.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ordered_json.h"
#include "grammar/number_range.h"
#include "grammar/pattern.h"

namespace moiety::grammar {

// A schema and its place: the JSON pointer in the whole document.
struct LocatedSchema {
  const OrderedJson* json;
  std::string where;
};
// All of them hold.
using Schemas = std::vector<LocatedSchema>;

// Types as bits. The standard's "number" is Integer and Fraction.
enum TypeBits : unsigned { kNull = 1, kBoolean = 2, kInteger = 4, kFraction = 8, kString = 16, kArray = 32, kObject = 64, kAnyType = 127 };
unsigned type_of(const OrderedJson& value);

struct SchemaFacts {
  struct Property {
    std::string name;
    Schemas schemas;
  };

  unsigned types = kAnyType;
  unsigned spoken_of = 0;  // types that keywords other than type, enum and const speak of
  std::optional<std::vector<const OrderedJson*>> values;  // enum, const
  std::string values_where;

  std::vector<Property> properties;
  std::map<std::string, size_t, std::less<>> property_at;
  std::vector<std::string> required;
  Schemas additional;             // of properties not named
  bool says_additional = false;
  Schemas property_names;
  size_t max_properties = SIZE_MAX, min_properties = 0;

  std::vector<Schemas> prefix_items;
  Schemas items;  // of those behind
  LengthLimits items_limits;

  LengthLimits length;
  std::optional<LocatedSchema> pattern, format;

  NumberRange range;

  // Throws Error(Input) for keywords that make no sense, and, unless `ignore_unsupported`, for those that can't be honoured.
  // Combinators ($ref, allOf, anyOf, oneOf) are the caller's business.
  void add(const LocatedSchema& schema, bool ignore_unsupported);

 private:
  void add_types(const LocatedSchema& schema);
  void add_values(const LocatedSchema& schema);
  void add_object(const LocatedSchema& schema);
  void add_array(const LocatedSchema& schema);
  void add_string(const LocatedSchema& schema);
  void add_number(const LocatedSchema& schema);
};

// Whether a keyword says something of values; others, such as title, are passed over.
bool is_assertion(std::string_view keyword);

// `key` as the next step of a JSON pointer (RFC 6901).
std::string pointer_to(const std::string& where, std::string_view key);

}  // namespace moiety::grammar
