// Filters over sequences.
#include <fmt/core.h>

#include <algorithm>

#include "jinja/operators.h"
#include "jinja/tables.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

bool all_digits(std::string_view text) {
  return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos;
}

// What "a.b.0" or 1 leads to from `item`.
Value follow(Run& run, Value item, const Value& path, const Value* otherwise = nullptr) {
  if (!path.is_string()) return subscript(run, item, path);
  std::string_view rest = path.text();
  while (true) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view part = rest.substr(0, dot);
    run.budget.step();
    item = all_digits(part) ? subscript(run, item, Value::of_int(std::stoi(std::string(part))))
                            : subscript(run, item, run.text(std::string(part)));
    if (otherwise != nullptr && item.is_undefined()) item = *otherwise;
    if (dot == rest.size()) return item;
    rest.remove_prefix(dot + 1);
  }
}

Value without_case(Run& run, const Value& value) {
  return value.is_string() ? run.text(to_lower(value.text())) : value;
}

// The keys that items are compared by: an attribute or the item, strings in lower case unless case matters.
std::vector<Value> keys_of(const Call& c, const std::vector<Value>& items, const Value* attribute, bool case_sensitive,
                           const Value* otherwise = nullptr) {
  const bool by_attribute = attribute != nullptr && !attribute->is(Type::None);
  std::vector<Value> keys;
  for (const Value& item : items) {
    const Value key = by_attribute ? follow(c.run, item, *attribute, otherwise) : item;
    keys.push_back(case_sensitive ? key : without_case(c.run, key));
  }
  return keys;
}

std::vector<Value> picked(const std::vector<Value>& items, const std::vector<size_t>& order) {
  std::vector<Value> out;
  for (const size_t i : order) out.push_back(items[i]);
  return out;
}

std::vector<size_t> sorted_order(Run& run, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? less(keys[b], keys[a], run.budget) : less(keys[a], keys[b], run.budget);
  });
  return order;
}

Value nothing(const Call& c, const char* why) { return Value::undefined(c.run.text(why).string); }

Value first(const Call& c) {
  if (c.self.is_string() && !c.self.text().empty()) return subscript(c.run, c.self, Value::of_int(0));
  const auto items = c.run.items(c.self);
  return items.empty() ? nothing(c, "the first item of nothing") : items.front();
}

Value last(const Call& c) {
  if (is_list(c.self, List::Kind::Iterator)) c.run.fault(fmt::format("'{}' object is not reversible", type_name(c.self)));
  const auto items = c.run.items(c.self);
  return items.empty() ? nothing(c, "the last item of nothing") : items.back();
}

Value join(const Call& c) {
  const std::string between = c.text(0, "");
  std::string text;
  bool is_first = true;
  for (const Value& item : c.run.items(c.self)) {
    if (!is_first) {
      c.run.budget.allocate(between.size());
      text += between;
    }
    is_first = false;
    append_str(text, c.has(1) && !c.at(1).is(Type::None) ? follow(c.run, item, c.at(1)) : item, c.run.budget);
  }
  return c.run.text(std::move(text));
}

const Value* named_argument(const Arguments& arguments, std::string_view name) {
  for (const auto& [key, value] : arguments.named) {
    if (key->text == name) return &value;
  }
  return nullptr;
}

Arguments without_first(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

std::string name_of(const Call& c, size_t i, const char* what) {
  const auto& given = c.all.positional;
  if (i >= given.size() || !given[i].is_string()) c.run.fault(fmt::format("{} wants the name of one", what));
  return std::string(given[i].text());
}

Value map(const Call& c) {
  std::vector<Value> out;
  const Value* attribute = named_argument(c.all, "attribute");
  if (c.all.positional.empty() && attribute != nullptr) {
    const Value* otherwise = named_argument(c.all, "default");
    for (const Value& item : c.run.items(c.self)) out.push_back(follow(c.run, item, *attribute, otherwise));
  } else {
    const std::string name = name_of(c, 0, "map: a filter");
    const Arguments rest = without_first(c.all, 1);
    for (const Value& item : c.run.items(c.self)) out.push_back(c.run.filter(name, item, rest));
  }
  return c.run.heap.iterator(std::move(out));
}

// The items for which a test says `wanted`: of the item, or of an attribute of it. Without a test, whether it is true.
Value choose(const Call& c, bool wanted, bool by_attribute) {
  if (by_attribute && c.all.positional.empty()) c.run.fault("selectattr and rejectattr want the name of an attribute");
  const size_t test_at = by_attribute ? 1 : 0;
  const bool has_test = c.all.positional.size() > test_at;
  const std::string test = has_test ? name_of(c, test_at, "select: a test") : "";
  const Arguments rest = has_test ? without_first(c.all, test_at + 1) : Arguments{};
  std::vector<Value> out;
  for (const Value& item : c.run.items(c.self)) {
    const Value looked_at = by_attribute ? follow(c.run, item, c.all.positional[0]) : item;
    if ((has_test ? c.run.test(test, looked_at, rest) : is_true(looked_at)) == wanted) out.push_back(item);
  }
  return c.run.heap.iterator(std::move(out));
}

Value select(const Call& c) { return choose(c, true, false); }
Value reject(const Call& c) { return choose(c, false, false); }
Value select_attribute(const Call& c) { return choose(c, true, true); }
Value reject_attribute(const Call& c) { return choose(c, false, true); }

Value group_by(const Call& c) {
  const auto items = c.run.items(c.self);
  const bool case_sensitive = c.truth(2, false);
  const Value* otherwise = c.has(1) && !c.at(1).is(Type::None) ? &c.at(1) : nullptr;
  const auto keys = keys_of(c, items, &c.at(0), case_sensitive, otherwise);
  const auto order = sorted_order(c.run, keys, false);
  std::vector<Value> groups;
  for (size_t at = 0; at < order.size();) {
    List* group = c.run.heap.list();
    const size_t begin = at;
    while (at < order.size() && equal(keys[order[at]], keys[order[begin]], c.run.budget)) {
      c.run.heap.add(*group, items[order[at++]]);
    }
    const Value key = case_sensitive ? keys[order[begin]] : follow(c.run, items[order[begin]], c.at(0), otherwise);
    const Value pair = c.run.heap.list({key, Value(group)}, List::Kind::Tuple);
    pair.list->name = kGroupTuple;
    groups.push_back(pair);
    if (at == begin) ++at;  // a NaN equals nothing
  }
  return c.run.heap.list(std::move(groups));
}

Value unique(const Call& c) {
  const auto items = c.run.items(c.self);
  const auto keys = keys_of(c, items, c.has(1) ? &c.at(1) : nullptr, c.truth(0, false));
  Dict* seen = c.run.heap.dict();
  std::vector<Value> out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (seen->find(keys[i], c.run.budget) != nullptr) continue;
    c.run.heap.set(*seen, keys[i], Value::none());
    out.push_back(items[i]);
  }
  return c.run.heap.iterator(std::move(out));
}

Value sort(const Call& c) {
  const auto items = c.run.items(c.self);
  if (c.has(2) && c.at(2).is_string()) {  // "a,b": by a, then by b; a list even of one, as undefined ones have no order else
    std::vector<Value> keys(items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      List* parts = c.run.heap.list();
      std::string_view rest = c.at(2).text();
      while (true) {
        const size_t comma = std::min(rest.find(','), rest.size());
        const Value part = follow(c.run, items[i], c.run.text(std::string(rest.substr(0, comma))));
        c.run.heap.add(*parts, c.truth(1, false) ? part : without_case(c.run, part));
        if (comma == rest.size()) break;
        rest.remove_prefix(comma + 1);
      }
      keys[i] = Value(parts);
    }
    return c.run.heap.list(picked(items, sorted_order(c.run, keys, c.truth(0, false))));
  }
  const auto keys = keys_of(c, items, c.has(2) ? &c.at(2) : nullptr, c.truth(1, false));
  return c.run.heap.list(picked(items, sorted_order(c.run, keys, c.truth(0, false))));
}

Value dict_sort(const Call& c) {
  if (!c.self.is(Type::Dict)) c.run.fault(fmt::format("dictsort of '{}'", type_name(c.self)));
  const std::string by = c.text(1, "key");
  if (by != "key" && by != "value") c.run.fault("dictsort: 'by' must be \"key\" or \"value\"");
  std::vector<Value> pairs, keys;
  for (const auto& [key, value] : c.self.dict->entries()) {
    pairs.push_back(c.run.heap.list({key, value}, List::Kind::Tuple));
    const Value& compared = by == "key" ? key : value;
    keys.push_back(c.truth(0, false) ? compared : without_case(c.run, compared));
  }
  return c.run.heap.list(picked(pairs, sorted_order(c.run, keys, c.truth(2, false))));
}

Value batch(const Call& c) {
  const int64_t size = c.integer(0, 0);
  std::vector<Value> out;
  List* row = nullptr;
  for (const Value& item : c.run.items(c.self)) {
    if (row == nullptr || static_cast<int64_t>(row->items.size()) == size) out.push_back(Value(row = c.run.heap.list()));
    c.run.heap.add(*row, item);
  }
  if (row != nullptr && c.has(1) && !c.at(1).is(Type::None)) {
    while (static_cast<int64_t>(row->items.size()) < size) c.run.heap.add(*row, c.at(1));
  }
  return c.run.heap.iterator(std::move(out));
}

Value slice_into(const Call& c) {
  const auto items = c.run.items(c.self);
  const int64_t slices = c.integer(0, 0);
  if (slices <= 0) c.run.fault("slice: the number of slices must be positive");
  const int64_t size = static_cast<int64_t>(items.size());
  const int64_t each = size / slices, longer = size % slices;
  std::vector<Value> out;
  size_t at = 0;
  for (int64_t slice = 0; slice < slices; ++slice) {
    List* row = c.run.heap.list();
    const int64_t count = each + (slice < longer);
    for (int64_t i = 0; i < count; ++i) c.run.heap.add(*row, items[at++]);
    if (c.has(1) && !c.at(1).is(Type::None) && slice >= longer) c.run.heap.add(*row, c.at(1));
    out.push_back(Value(row));
  }
  return c.run.heap.iterator(std::move(out));
}

Value sum(const Call& c) {
  Value total = c.value(1, Value::of_int(0));
  for (const Value& item : c.run.items(c.self)) {
    const bool by_attribute = c.has(0) && !c.at(0).is(Type::None);
    total = binary(c.run, Operation::Add, total, by_attribute ? follow(c.run, item, c.at(0)) : item);
  }
  return total;
}

Value extreme(const Call& c, bool largest) {
  const auto items = c.run.items(c.self);
  if (items.empty()) return nothing(c, "the largest or smallest item of nothing");
  const auto keys = keys_of(c, items, c.has(1) ? &c.at(1) : nullptr, c.truth(0, false));
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    const bool better = largest ? less(keys[best], keys[i], c.run.budget) : less(keys[i], keys[best], c.run.budget);
    if (better) best = i;
  }
  return items[best];
}

Value min(const Call& c) { return extreme(c, false); }
Value max(const Call& c) { return extreme(c, true); }

Value reverse(const Call& c) {
  std::vector<Value> items = c.run.items(c.self);
  std::reverse(items.begin(), items.end());
  if (c.self.is_string()) return concatenate(c.run, items);
  if (is_list(c.self, List::Kind::Iterator)) return c.run.heap.list(std::move(items));
  return c.run.heap.iterator(std::move(items), "list_reverseiterator");
}

constexpr Builtin kFilters[] = {
    {"batch", batch, "linecount fill_with", 1},
    {"dictsort", dict_sort, "case_sensitive by reverse"},
    {"first", first},
    {"groupby", group_by, "attribute default case_sensitive", 1},
    {"join", join, "d attribute"},
    {"last", last},
    {"map", map, "*"},
    {"max", max, "case_sensitive attribute"},
    {"min", min, "case_sensitive attribute"},
    {"reject", reject, "*"},
    {"rejectattr", reject_attribute, "*"},
    {"reverse", reverse},
    {"select", select, "*"},
    {"selectattr", select_attribute, "*"},
    {"slice", slice_into, "slices fill_with", 1},
    {"sort", sort, "reverse case_sensitive attribute"},
    {"sum", sum, "attribute start"},
    {"unique", unique, "case_sensitive attribute"},
};

}  // namespace

std::span<const Builtin> list_filters() { return kFilters; }

}  // namespace moiety::jinja
