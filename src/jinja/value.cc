#include "jinja/value.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace moiety::jinja {
namespace {

constexpr size_t kFewEntries = 8;  // looked through one by one

size_t count_chars(std::string_view text) {
  size_t chars = 0;
  for (const char c : text) chars += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return chars;
}

size_t hash_text(std::string_view text) { return std::hash<std::string_view>()(text); }

size_t hash_of(const Value& v, Budget& budget, int depth = 0) {
  switch (v.type) {
    case Type::String:
      budget.scan(v.text().size());
      return hash_text(v.text());
    case Type::Bool:
    case Type::Int:
      return std::hash<int64_t>()(v.as_integer()) * 0x9e3779b97f4a7c15u;
    case Type::Float:
      if (std::abs(v.number) < 9e15 && v.number == std::floor(v.number)) {
        return std::hash<int64_t>()(static_cast<int64_t>(v.number)) * 0x9e3779b97f4a7c15u;
      }
      return std::hash<double>()(v.number);
    case Type::List:
      if (v.list->kind == List::Kind::Tuple && depth < budget.limits.value_depth) {
        size_t hash = 0x345678;
        for (const Value& item : v.list->items) {
          budget.step();
          hash = (hash ^ hash_of(item, budget, depth + 1)) * 1000003;
        }
        return hash;
      }
      break;
    case Type::Dict:
      break;
    case Type::Object:
      return std::hash<const void*>()(v.object);
    case Type::None:
    case Type::Undefined:
      return static_cast<size_t>(v.type) + 1;
  }
  budget.fault(fmt::format("unhashable type: '{}'", type_name(v)));
}

bool equal_at(const Value& a, const Value& b, Budget& budget, int depth);

bool equal_lists(const List& a, const List& b, Budget& budget, int depth) {
  if (&a == &b) return true;
  if (a.kind != b.kind || a.kind == List::Kind::Iterator || a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal_at(a.items[i], b.items[i], budget, depth + 1)) return false;
  }
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Budget& budget, int depth) {
  if (&a == &b) return true;
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key, budget);
    if (other == nullptr || !equal_at(value, *other, budget, depth + 1)) return false;
  }
  return true;
}

bool equal_at(const Value& a, const Value& b, Budget& budget, int depth) {
  budget.step();
  if (depth > budget.limits.value_depth) budget.spent("nesting", budget.limits.value_depth, "levels");
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) return a.as_integer() == b.as_integer();
    return a.as_float() == b.as_float();
  }
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::String:
      budget.scan(std::min(a.text().size(), b.text().size()));
      return a.text() == b.text();
    case Type::List:
      return equal_lists(*a.list, *b.list, budget, depth);
    case Type::Dict:
      return equal_dicts(*a.dict, *b.dict, budget, depth);
    case Type::Object:
      return a.object == b.object;
    default:
      return true;  // None, Undefined
  }
}

bool less_at(const Value& a, const Value& b, Budget& budget, int depth) {
  budget.step();
  if (depth > budget.limits.value_depth) budget.spent("nesting", budget.limits.value_depth, "levels");
  if (a.is_integer() && b.is_integer()) return a.as_integer() < b.as_integer();
  if (a.is_number() && b.is_number()) return a.as_float() < b.as_float();
  if (a.is_string() && b.is_string()) {
    budget.scan(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // UTF-8 sorts as its code points do
  }
  const bool ordered = a.is(Type::List) && b.is(Type::List) && a.list->kind == b.list->kind &&
                       (a.list->kind == List::Kind::List || a.list->kind == List::Kind::Tuple);
  if (ordered) {
    const auto &x = a.list->items, &y = b.list->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal_at(x[i], y[i], budget, depth + 1)) return less_at(x[i], y[i], budget, depth + 1);
    }
    return x.size() < y.size();
  }
  for (const Value* v : {&a, &b}) {
    if (v->is_undefined()) budget.fault(why_undefined(*v));
  }
  budget.fault(fmt::format("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b)));
}

}  // namespace

void Budget::spent(const char* what, uint64_t limit, const char* unit) const {
  throw Fault{FaultKind::Budget, line, fmt::format("it asks for too much {} (the limit is {} {})", what, limit, unit)};
}

Value Value::of_bool(bool b) {
  Value v = of(Type::Bool);
  v.boolean = b;
  return v;
}

Value Value::of_int(int64_t i) {
  Value v = of(Type::Int);
  v.integer = i;
  return v;
}

Value Value::of_float(double d) {
  Value v = of(Type::Float);
  v.number = d;
  return v;
}

Value Value::undefined(const String* name, const char* owner_type) {
  Value v;
  v.string = name;
  v.owner_type = owner_type;
  return v;
}

std::string_view Value::text() const {
  assert(is_string());
  return string->text;
}

String::String(std::string bytes, bool is_markup)
    : text(std::move(bytes)), chars(count_chars(text)), markup(is_markup) {}

size_t Dict::place(size_t hash, const Value& key, Budget& budget) const {
  if (slots_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (hashes_[i] == hash && equal(entries_[i].first, key, budget)) return i;
    }
    return entries_.size();
  }
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    budget.step();
    const size_t i = slots_[slot] - 1;
    if (hashes_[i] == hash && equal(entries_[i].first, key, budget)) return i;
  }
  return entries_.size();
}

const Value* Dict::find(const Value& key, Budget& budget) const {
  const size_t i = place(hash_of(key, budget), key, budget);
  return i == entries_.size() ? nullptr : &entries_[i].second;
}

const Value* Dict::find(std::string_view key) const {
  const size_t hash = hash_text(key);
  const auto is_it = [&](size_t i) {
    return hashes_[i] == hash && entries_[i].first.is_string() && entries_[i].first.text() == key;
  };
  if (slots_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (is_it(i)) return &entries_[i].second;
    }
    return nullptr;
  }
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    if (is_it(slots_[slot] - 1)) return &entries_[slots_[slot] - 1].second;
  }
  return nullptr;
}

void Dict::set(const Value& key, const Value& value, Budget& budget) {
  const size_t hash = hash_of(key, budget);
  const size_t i = place(hash, key, budget);
  if (i < entries_.size()) {
    entries_[i].second = value;
    return;
  }
  entries_.emplace_back(key, value);
  hashes_.push_back(hash);
  if (entries_.size() <= kFewEntries) return;
  if (entries_.size() * 2 > slots_.size()) {
    rebuild(std::max<size_t>(32, slots_.size() * 2));
  } else {
    add_to_slots(i);
  }
}

bool Dict::erase(const Value& key, Budget& budget) {
  const size_t i = place(hash_of(key, budget), key, budget);
  if (i == entries_.size()) return false;
  budget.step(entries_.size() + slots_.size());
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
  hashes_.erase(hashes_.begin() + static_cast<std::ptrdiff_t>(i));
  if (!slots_.empty()) rebuild(slots_.size());
  return true;
}

void Dict::clear() {
  entries_.clear();
  hashes_.clear();
  slots_.clear();
}

void Dict::add_to_slots(size_t entry) {
  const size_t mask = slots_.size() - 1;
  size_t slot = hashes_[entry] & mask;
  while (slots_[slot] != 0) slot = (slot + 1) & mask;
  slots_[slot] = static_cast<uint32_t>(entry + 1);
}

void Dict::rebuild(size_t slots) {
  slots_.assign(slots, 0);
  for (size_t i = 0; i < entries_.size(); ++i) add_to_slots(i);
}

Value Object::call(Run&, const Arguments&) { return {}; }

Value Heap::text(std::string text, bool markup) {
  budget_->allocate(text.size() + sizeof(String));
  return Value(&strings_.emplace_back(std::move(text), markup));
}

List* Heap::list(List::Kind kind) {
  budget_->allocate(sizeof(List));
  List* list = &lists_.emplace_back();
  list->kind = kind;
  return list;
}

Value Heap::list(std::vector<Value> items, List::Kind kind) {
  budget_->allocate(items.size() * sizeof(Value));
  List* made = list(kind);
  made->items = std::move(items);
  return Value(made);
}

Value Heap::iterator(std::vector<Value> items, const char* name) {
  const Value made = list(std::move(items), List::Kind::Iterator);
  made.list->name = name;
  return made;
}

Dict* Heap::dict() {
  budget_->allocate(sizeof(Dict));
  return &dicts_.emplace_back();
}

void Heap::set(Dict& dict, const Value& key, const Value& value) {
  budget_->allocate(sizeof(Dict::Entry) + 32);
  dict.set(key, value, *budget_);
}

bool is_true(const Value& v) {
  switch (v.type) {
    case Type::Bool:
      return v.boolean;
    case Type::Int:
      return v.integer != 0;
    case Type::Float:
      return v.number != 0;
    case Type::String:
      return !v.text().empty();
    case Type::List:
      return v.list->kind == List::Kind::Iterator || !v.list->items.empty();
    case Type::Dict:
      return !v.dict->entries().empty();
    case Type::Object:
      return true;
    default:
      return false;
  }
}

bool equal(const Value& a, const Value& b, Budget& budget) { return equal_at(a, b, budget, 0); }
bool less(const Value& a, const Value& b, Budget& budget) { return less_at(a, b, budget, 0); }

const char* type_name(const Value& v) {
  switch (v.type) {
    case Type::Undefined:
      return "Undefined";
    case Type::None:
      return "NoneType";
    case Type::Bool:
      return "bool";
    case Type::Int:
      return "int";
    case Type::Float:
      return "float";
    case Type::String:
      return v.string->markup ? "Markup" : "str";
    case Type::List:
      switch (v.list->kind) {
        case List::Kind::List:
          return "list";
        case List::Kind::Tuple:
          return "tuple";
        case List::Kind::Range:
          return "range";
        default:
          return v.list->name;
      }
    case Type::Dict:
      return "dict";
    case Type::Object:
      return v.object->type_name();
  }
  return "";
}

std::string why_undefined(const Value& v) {
  const std::string name = v.string == nullptr ? "" : v.string->text.substr(0, 100);
  if (v.owner_type == nullptr) return v.string == nullptr ? "a value is undefined" : fmt::format("'{}' is undefined", name);
  if (v.string == nullptr) return fmt::format("'{} object' has no such element", v.owner_type);
  return fmt::format("'{} object' has no attribute '{}'", v.owner_type, name);
}

}  // namespace moiety::jinja
