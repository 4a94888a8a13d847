// What a template is rendered with: names and values, objects in the order in which they were written.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "jinja/value.h"

namespace moiety::jinja {

// The same lists and dicts again, so that changing them leaves the first alone. Strings are shared.
Dict* copy(const Dict& dict, Heap& heap);

class Context {
 public:
  Context();
  // A JSON object. Throws Error(Input), `name` says where the text comes from.
  static Context parse(std::string_view text, std::string_view name);

  bool has(std::string_view name) const { return root_->find(name) != nullptr; }
  // Null or false or empty counts as nothing.
  bool has_something(std::string_view name) const;
  void set_text(const std::string& name, std::string_view text);
  void set_flag(const std::string& name, bool value);
  // Objects of a Json have their keys in alphabetical order.
  void set(const std::string& name, const Json& value);
  // JSON text, whose order is kept. Throws Error(Input).
  void set_json(const std::string& name, std::string_view text);

  // The same names and values, to be changed freely. Texts are shared: `other` must outlive this.
  void assign(const Context& other) { root_ = copy(*other.root_, *heap_); }

  const Dict& values() const { return *root_; }

 private:
  Value from(const Json& json);

  std::unique_ptr<Budget> budget_;  // without limits
  std::unique_ptr<Heap> heap_;
  Dict* root_;
};

// JSON text as values of `heap`, nested at most 100 deep. Throws Error(Input).
Value parse_json_value(std::string_view text, std::string_view name, Heap& heap);

}  // namespace moiety::jinja
