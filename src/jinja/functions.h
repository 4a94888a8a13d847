// What templates can call: filters, tests, methods and globals, each a row in a table that names its parameters.
#pragma once

#include <array>
#include <string_view>

#include "jinja/run.h"

namespace moiety::jinja {

// A call with its arguments put in the order of the parameters.
struct Call {
  static constexpr size_t kMost = 8;

  Run& run;
  const Value& self;      // what stands before the '|', the 'is' or the '.'
  const Arguments& all;   // as they were written
  std::array<const Value*, kMost> given{};

  bool has(size_t i) const { return given[i] != nullptr; }
  const Value& at(size_t i) const { return *given[i]; }
  Value value(size_t i, Value otherwise) const { return has(i) ? at(i) : otherwise; }
  bool truth(size_t i, bool otherwise) const { return has(i) ? is_true(at(i)) : otherwise; }
  int64_t integer(size_t i, int64_t otherwise) const;
  std::string text(size_t i, std::string_view otherwise) const;  // str() of the argument
  std::string_view string(size_t i) const;                       // Throws Fault unless it is a string
  std::string self_text() const { return run.str(self); }
};

struct Builtin {
  const char* name;
  Value (*function)(const Call&);
  const char* parameters = "";  // names with spaces between; "*": any, taken from Call::all
  size_t required = 0;
};

// Puts the arguments in order and calls. Throws Fault for those that don't fit.
Value call(const Builtin& builtin, Run& run, const Value& self, const Arguments& arguments);

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
const Builtin* find_method(const Value& self, std::string_view name);
// A function or value that every template has; nothing for other names.
std::optional<Value> global(Run& run, std::string_view name);

// A method with what it is of: "abc".upper
class Method : public Object {
 public:
  Method(Value self, const Builtin& builtin) : self_(self), builtin_(builtin) {}
  const char* type_name() const override { return "builtin_function_or_method"; }
  bool is_callable() const override { return true; }
  Value call(Run& run, const Arguments& arguments) override { return jinja::call(builtin_, run, self_, arguments); }

 private:
  Value self_;
  const Builtin& builtin_;
};

class Namespace : public Object {
 public:
  explicit Namespace(Dict* attributes) : values(attributes) {}
  const char* type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(Run&, std::string_view name) override {
    const Value* found = values->find(name);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  Dict* values;
};

}  // namespace moiety::jinja
