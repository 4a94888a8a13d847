// The fields of a request's JSON: a table says what there is, what it means and what values it may have; a reader takes them
// out by the table and refuses what is wrong, naming the field. openapi.json is printed from the same tables (openapi.h), so
// what is parsed is described.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ordered_json.h"

namespace moiety::server {

enum class FieldType { Text, Integer, Number, Flag, List, Object, TextOrList, TextOrObject, Any };

struct Field;
using FieldTable = std::span<const Field>;

struct Field {
  using Members = FieldTable (*)();
  // `low` and `high` bound an integer or number; `members` are those of an object, or of each object in a list, where they are read.
  Field(const char* name_, FieldType type_, const char* says_, double low_ = std::numeric_limits<double>::lowest(),
        double high_ = std::numeric_limits<double>::max())
      : name(name_), type(type_), says(says_), low(low_), high(high_) {}
  Field(const char* name_, FieldType type_, const char* says_, Members members_) : Field(name_, type_, says_) { members = members_; }

  const char* name;
  FieldType type;
  const char* says;
  double low, high;
  Members members = nullptr;
};

// Throws HttpError(400) with this sentence and the field's name.
[[noreturn]] void wrong_field(const std::string& param, const std::string& sentence, const std::string& code = {});

// The document of a request's body, an object. Throws HttpError(400).
OrderedJson parse_body(std::string_view body);

// One object of a request. Getters take names that the table has (anything else is our mistake), give nothing for a field that is
// absent or null, and throw HttpError(400) for a value of another type or out of range. Fields that the table does not have are
// left alone.
class Fields {
 public:
  // `where` is how the object is called in sentences and in `param`, such as "messages[2]"; the body itself has no name.
  // Throws HttpError(400) unless it is an object.
  Fields(const OrderedJson& object, FieldTable table, std::string where = {});

  bool has(const char* name) const { return find(name) != nullptr; }
  std::optional<std::string> text(const char* name) const;
  std::optional<int64_t> integer(const char* name) const;
  std::optional<double> number(const char* name) const;
  std::optional<bool> flag(const char* name) const;
  const OrderedJson* list(const char* name) const;
  const OrderedJson* object(const char* name) const;
  const OrderedJson* any(const char* name) const;
  // A string, or a list of strings.
  std::vector<std::string> texts(const char* name) const;

  // As above, but it must be there.
  std::string need_text(const char* name) const;
  const OrderedJson& need(const char* name) const;

  // "messages[2].content"
  std::string param(std::string_view name) const;
  // Throws HttpError(400): "'messages[2].content' " and the rest of the sentence.
  [[noreturn]] void wrong(std::string_view name, std::string_view rest) const;

 private:
  const Field& row(const char* name) const;
  const OrderedJson* find(const char* name) const;
  double in_range(const Field& field, const OrderedJson& value) const;

  const OrderedJson* object_;  // looks; the document outlives this
  FieldTable table_;
  std::string where_;
};

// A value for an error sentence: what was found, cut short.
std::string shown(const OrderedJson& value);

}  // namespace moiety::server
