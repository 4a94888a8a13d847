// Methods of lists, tuples and dicts. Those that change one are allowed: values belong to one rendering alone.
#include <fmt/core.h>

#include <algorithm>

#include "jinja/operators.h"
#include "jinja/tables.h"

namespace moiety::jinja {
namespace {

std::vector<Value>& items(const Call& c) { return c.self.list->items; }

Value append(const Call& c) {
  c.run.heap.add(*c.self.list, c.at(0));
  return Value::none();
}

Value extend(const Call& c) {
  for (const Value& item : c.run.items(c.at(0))) c.run.heap.add(*c.self.list, item);
  return Value::none();
}

// Where an index of insert or pop points, counted from the end if negative.
int64_t place(const Call& c, size_t i, int64_t otherwise) {
  const int64_t at = c.integer(i, otherwise), size = static_cast<int64_t>(items(c).size());
  return at < 0 ? at + std::min(size, INT64_MAX) : at;
}

Value insert(const Call& c) {
  const int64_t size = static_cast<int64_t>(items(c).size());
  const int64_t at = std::clamp<int64_t>(place(c, 0, 0), 0, size);
  c.run.budget.step(static_cast<uint64_t>(size - at));
  c.run.budget.allocate(sizeof(Value));
  items(c).insert(items(c).begin() + at, c.at(1));
  return Value::none();
}

Value pop(const Call& c) {
  const int64_t at = place(c, 0, -1), size = static_cast<int64_t>(items(c).size());
  if (at < 0 || at >= size) c.run.fault("pop index out of range");
  c.run.budget.step(static_cast<uint64_t>(size - at));
  const Value popped = items(c)[static_cast<size_t>(at)];
  items(c).erase(items(c).begin() + at);
  return popped;
}

// The place of an equal item, or the size.
size_t find(const Call& c) {
  size_t at = 0;
  while (at < items(c).size() && !equal(items(c)[at], c.at(0), c.run.budget)) ++at;
  return at;
}

Value remove(const Call& c) {
  const size_t at = find(c);
  if (at == items(c).size()) c.run.fault("list.remove(x): x not in list");
  c.run.budget.step(items(c).size() - at);
  items(c).erase(items(c).begin() + static_cast<std::ptrdiff_t>(at));
  return Value::none();
}

Value index(const Call& c) {
  const size_t at = find(c);
  if (at == items(c).size()) c.run.fault(fmt::format("index(x): x is not in the {}", type_name(c.self)));
  return Value::of_int(static_cast<int64_t>(at));
}

Value count(const Call& c) {
  int64_t found = 0;
  for (const Value& item : items(c)) found += equal(item, c.at(0), c.run.budget);
  return Value::of_int(found);
}

Value clear(const Call& c) {
  items(c).clear();
  return Value::none();
}

Value copy(const Call& c) { return c.run.heap.list(items(c)); }

Value reverse(const Call& c) {
  c.run.budget.step(items(c).size());
  std::reverse(items(c).begin(), items(c).end());
  return Value::none();
}

Value sort(const Call& c) {
  const bool reverse = c.truth(1, false);
  std::stable_sort(items(c).begin(), items(c).end(), [&](const Value& a, const Value& b) {
    return reverse ? less(b, a, c.run.budget) : less(a, b, c.run.budget);
  });
  return Value::none();
}

Value view(const Call& c, const char* name, std::vector<Value> shown) {
  const Value made = c.run.heap.list(std::move(shown), List::Kind::View);
  made.list->name = name;
  return made;
}

Value keys(const Call& c) { return view(c, "dict_keys", c.run.items(c.self)); }

Value values(const Call& c) {
  std::vector<Value> all;
  for (const auto& entry : c.self.dict->entries()) all.push_back(entry.second);
  return view(c, "dict_values", std::move(all));
}

Value pairs(const Call& c) {
  std::vector<Value> all;
  for (const auto& [key, value] : c.self.dict->entries()) {
    all.push_back(c.run.heap.list({key, value}, List::Kind::Tuple));
  }
  return view(c, "dict_items", std::move(all));
}

Value get(const Call& c) {
  const Value* found = c.self.dict->find(c.at(0), c.run.budget);
  return found == nullptr ? c.value(1, Value::none()) : *found;
}

Value set_default(const Call& c) {
  if (const Value* found = c.self.dict->find(c.at(0), c.run.budget)) return *found;
  c.run.heap.set(*c.self.dict, c.at(0), c.value(1, Value::none()));
  return c.value(1, Value::none());
}

Value pop_key(const Call& c) {
  const Value* found = c.self.dict->find(c.at(0), c.run.budget);
  if (found == nullptr) {
    if (!c.has(1)) c.run.fault(fmt::format("pop: there is no key {}", c.run.repr(c.at(0)).substr(0, 60)));
    return c.at(1);
  }
  const Value popped = *found;
  c.self.dict->erase(c.at(0), c.run.budget);
  return popped;
}

Value update(const Call& c) {
  if (c.all.positional.size() > 1) c.run.fault("update expected at most 1 argument");
  if (!c.all.positional.empty()) {
    const Value from = c.all.positional[0];
    if (from.is(Type::Dict)) {
      const auto entries = from.dict->entries();
      for (const auto& [key, value] : entries) c.run.heap.set(*c.self.dict, key, value);
    } else {
      for (const Value& item : c.run.items(from)) {
        const auto pair = c.run.items(item);
        if (pair.size() != 2) c.run.fault("update: expected pairs");
        c.run.heap.set(*c.self.dict, pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : c.all.named) c.run.heap.set(*c.self.dict, Value(name), value);
  return Value::none();
}

Value clear_dict(const Call& c) {
  c.self.dict->clear();
  return Value::none();
}

Value copy_dict(const Call& c) {
  Dict* made = c.run.heap.dict();
  for (const auto& [key, value] : c.self.dict->entries()) c.run.heap.set(*made, key, value);
  return Value(made);
}

constexpr Builtin kListMethods[] = {
    {"append", append, "item", 1}, {"clear", clear},
    {"copy", copy},                {"count", count, "item", 1},
    {"extend", extend, "items", 1}, {"index", index, "item", 1},
    {"insert", insert, "index item", 2}, {"pop", pop, "index"},
    {"remove", remove, "item", 1}, {"reverse", reverse},
    {"sort", sort, "key reverse"},
};

constexpr Builtin kTupleMethods[] = {{"count", count, "item", 1}, {"index", index, "item", 1}};

constexpr Builtin kDictMethods[] = {
    {"clear", clear_dict},  {"copy", copy_dict}, {"get", get, "key default", 1},
    {"items", pairs},       {"keys", keys},      {"pop", pop_key, "key default", 1},
    {"setdefault", set_default, "key default", 1}, {"update", update, "*"},
    {"values", values},
};

}  // namespace

std::span<const Builtin> list_methods() { return kListMethods; }
std::span<const Builtin> tuple_methods() { return kTupleMethods; }
std::span<const Builtin> dict_methods() { return kDictMethods; }

}  // namespace moiety::jinja
