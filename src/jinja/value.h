// The values of a template: what Python has, as far as chat templates see it. A Value only looks; everything it points to
// lies in a Heap and goes with it, so that no cycle leaks and nothing deep is taken apart recursively.
#pragma once

#include <cassert>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/budget.h"

namespace moiety::jinja {

struct String;
struct List;
class Dict;
class Object;

enum class Type : uint8_t { Undefined, None, Bool, Int, Float, String, List, Dict, Object };

struct Value {
  Type type = Type::Undefined;
  // Of an Undefined: what was looked up. Null: `string` is null or a variable's name; otherwise the type of the thing that
  // had no such attribute.
  const char* owner_type = nullptr;
  union {
    const String* string = nullptr;
    bool boolean;
    int64_t integer;
    double number;
    List* list;
    Dict* dict;
    Object* object;
  };

  static Value none() { return of(Type::None); }
  static Value of_bool(bool b);
  static Value of_int(int64_t i);
  static Value of_float(double d);
  static Value undefined(const String* name, const char* owner_type = nullptr);
  explicit Value(List* l) : type(Type::List), list(l) {}
  explicit Value(Dict* d) : type(Type::Dict), dict(d) {}
  explicit Value(Object* o) : type(Type::Object), object(o) {}
  explicit Value(const String* s) : type(Type::String), string(s) {}
  Value() = default;

  bool is(Type t) const { return type == t; }
  bool is_undefined() const { return type == Type::Undefined; }
  bool is_string() const { return type == Type::String; }
  bool is_integer() const { return type == Type::Int || type == Type::Bool; }
  bool is_number() const { return is_integer() || type == Type::Float; }
  int64_t as_integer() const { return type == Type::Bool ? int64_t{boolean} : integer; }
  double as_float() const { return type == Type::Float ? number : static_cast<double>(as_integer()); }
  std::string_view text() const;  // of a String

 private:
  static Value of(Type t) {
    Value v;
    v.type = t;
    return v;
  }
};

struct String {
  explicit String(std::string bytes, bool is_markup = false);

  std::string text;  // UTF-8
  size_t chars;      // code points
  bool markup;       // what `safe` and `escape` return: text added to it is escaped

  bool is_ascii() const { return chars == text.size(); }
};

struct List {
  enum class Kind {
    List,
    Tuple,
    Range,
    View,      // keys(), values(), items() of a dict: no subscripts
    Iterator,  // used up by walking over it once: no length, no subscripts
  };
  Kind kind = Kind::List;
  std::vector<Value> items;
  bool used = false;              // of an Iterator
  const char* name = "generator";  // Python's word for a View or Iterator
};

// Keeps the order of insertion. Keys are equal as in Python: 1, 1.0 and True are one.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  const Value* find(const Value& key, Budget& budget) const;
  const Value* find(std::string_view key) const;
  // An equal key keeps its place and gets the new value. Throws Fault for a key that has no hash.
  void set(const Value& key, const Value& value, Budget& budget);
  bool erase(const Value& key, Budget& budget);
  void clear();
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  size_t place(size_t hash, const Value& key, Budget& budget) const;  // in entries_, or its size
  void add_to_slots(size_t entry);
  void rebuild(size_t slots);

  std::vector<Entry> entries_;
  std::vector<size_t> hashes_;
  std::vector<uint32_t> slots_;  // entry + 1, or 0: open addressing, a power of two; empty while there are few entries
};

// What is neither text, number nor container: functions, macros, namespaces, the loop variable.
class Run;
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<const String*, Value>> named;
};
class Object {
 public:
  virtual ~Object() = default;
  virtual const char* type_name() const = 0;
  virtual std::optional<Value> attribute(Run&, std::string_view) { return std::nullopt; }
  virtual bool is_callable() const { return false; }
  virtual Value call(Run& run, const Arguments& arguments);
};

// The name of the tuples that groupby makes, told by its address: they have .grouper and .list.
inline constexpr char kGroupTuple[] = "_GroupTuple";

// Owns what values point to, and charges the budget for it.
class Heap {
 public:
  explicit Heap(Budget& budget) : budget_(&budget) {}
  Heap(Heap&&) = default;

  Value text(std::string text, bool markup = false);
  List* list(List::Kind kind = List::Kind::List);
  Value list(std::vector<Value> items, List::Kind kind = List::Kind::List);
  Value iterator(std::vector<Value> items, const char* name = "generator");
  Dict* dict();
  template <class T, class... Args>
  T* object(Args&&... args) {
    budget_->allocate(sizeof(T) + 64);
    auto owned = std::make_unique<T>(std::forward<Args>(args)...);
    T* object = owned.get();
    objects_.push_back(std::move(owned));
    return object;
  }
  void add(List& list, const Value& value) {
    budget_->allocate(sizeof(Value));
    list.items.push_back(value);
  }
  void set(Dict& dict, const Value& key, const Value& value);
  void set(Dict& dict, std::string key, const Value& value) { set(dict, text(std::move(key)), value); }

 private:
  Budget* budget_;
  std::deque<String> strings_;
  std::deque<List> lists_;
  std::deque<Dict> dicts_;
  std::vector<std::unique_ptr<Object>> objects_;
};

bool is_true(const Value& value);
bool equal(const Value& a, const Value& b, Budget& budget);
// Throws Fault if the two have no order ('<' not supported between …).
bool less(const Value& a, const Value& b, Budget& budget);

// Python's name of the type: 'str', 'dict', 'NoneType'.
const char* type_name(const Value& value);
// "'x' is undefined" or "'dict object' has no attribute 'x'".
std::string why_undefined(const Value& value);

inline bool is_list(const Value& v, List::Kind kind) { return v.type == Type::List && v.list->kind == kind; }

}  // namespace moiety::jinja
