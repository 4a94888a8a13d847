#include "grammar/json_schema.h"

#include <algorithm>
#include <deque>
#include <string>

#include "base/error.h"
#include "grammar/json_text.h"
#include "grammar/schema_facts.h"
#include "text/utf8.h"

namespace moiety::grammar {
namespace {

constexpr size_t kMostCombinations = 256;
constexpr size_t kMostWork = 200'000;  // properties and schemas gone through to combine schemas
constexpr size_t kMostSchemasAtOnce = 64;
constexpr size_t kMostValues = 200'000, kMostKeys = 1000, kDeepest = 64;
constexpr size_t kLongestRefChain = 64;

bool has_false(const Schemas& schemas) {
  return std::any_of(schemas.begin(), schemas.end(), [](const LocatedSchema& schema) { return *schema.json == false; });
}

size_t count_characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// Schemas that are referred to, or hold together with others, become rules, which wait in a list until their turn comes: so
// schemas may speak of themselves, and nothing recurses deeper than the JSON that they are written in.
// Looking up a key takes time in proportion to the object's keys, and every place of a schema is looked at.
void check_size(const OrderedJson& schema) {
  struct Place {
    const OrderedJson* json;
    size_t depth;
  };
  std::vector<Place> places = {{&schema, 1}};
  size_t values = 0;
  while (!places.empty()) {
    const Place place = places.back();
    places.pop_back();
    require(++values <= kMostValues, "a schema of more than {} values", kMostValues);
    if (!place.json->is_structured()) continue;
    require(place.depth <= kDeepest, "a schema nested deeper than {} levels", kDeepest);
    require(!place.json->is_object() || place.json->size() <= kMostKeys, "a schema with an object of more than {} keys", kMostKeys);
    for (const OrderedJson& inner : *place.json) places.push_back({&inner, place.depth + 1});
  }
}

class Compiler {
 public:
  Compiler(JsonText& json, const OrderedJson& root, const SchemaOptions& options)
      : json_(json), grammar_(json.grammar()), root_(root), options_(options) {}

  Expr compile() {
    check_size(root_);
    const Expr whole = rule_of({{&root_, "#"}});
    for (; !waiting_.empty(); waiting_.pop_front()) {
      const auto& [rule, schemas] = waiting_.front();
      grammar_.define(rule, schemas.size() == 1 ? one(schemas[0]) : combined(schemas));
    }
    return whole;
  }

 private:
  Expr rule_of(const Schemas& schemas) {
    std::string name;
    for (const LocatedSchema& schema : schemas) name += (name.empty() ? "" : " and ") + schema.where;
    const auto [entry, is_new] = rules_.try_emplace(name);
    if (is_new) {
      entry->second = grammar_.add_rule(name);
      waiting_.push_back({entry->second, schemas});
    }
    return grammar_.call(entry->second);
  }

  Expr value(Schemas schemas) {
    std::erase_if(schemas, [](const LocatedSchema& schema) { return *schema.json == true; });
    if (schemas.empty()) return json_.value();
    if (schemas.size() == 1) return one(schemas[0]);
    require(schemas.size() <= kMostSchemasAtOnce, "{}: more than {} schemas at the same time", schemas[0].where, kMostSchemasAtOnce);
    return rule_of(schemas);
  }

  // A schema that is nothing but one combinator needs no combining.
  Expr one(const LocatedSchema& schema) {
    if (schema.json->is_object()) {
      size_t assertions = 0;
      for (const auto& [name, unused] : schema.json->items()) assertions += is_assertion(name);
      if (assertions == 1) {
        if (schema.json->contains("$ref")) return rule_of({resolve(schema)});
        for (const char* key : {"anyOf", "oneOf"}) {
          if (!schema.json->contains(key)) continue;
          std::vector<Expr> ways;
          for (const LocatedSchema& branch : list_of(schema, key)) ways.push_back(value({branch}));
          return grammar_.choice(std::move(ways));
        }
      }
    }
    return combined({schema});
  }

  Expr combined(const Schemas& schemas) {
    std::vector<Expr> ways;
    for (const SchemaFacts& facts : facts_of(schemas)) ways.push_back(emit(facts, schemas[0].where));
    return grammar_.choice(std::move(ways));
  }

  Schemas list_of(const LocatedSchema& schema, const char* key) {
    const OrderedJson& list = schema.json->at(key);
    require(list.is_array() && !list.empty(), "{}/{}: expected a list of schemas", schema.where, key);
    Schemas schemas;
    for (size_t i = 0; i < list.size(); ++i) schemas.push_back({&list[i], fmt::format("{}/{}/{}", schema.where, key, i)});
    return schemas;
  }

  // RFC 6901, in a URI's fragment.
  LocatedSchema resolve(const LocatedSchema& schema) {
    const OrderedJson& reference = schema.json->at("$ref");
    require(reference.is_string(), "{}/$ref: expected a text", schema.where);
    const std::string text = decode_percent(reference.get<std::string>());
    require(text == "#" || text.starts_with("#/"), "{}/$ref: only references inside the schema (#/…) are supported", schema.where);
    LocatedSchema target{&root_, "#"};
    for (size_t at = 1; at < text.size();) {
      const size_t end = std::min(text.find('/', at + 1), text.size());
      std::string step;
      for (size_t i = at + 1; i < end; ++i) {
        const bool is_escape = text[i] == '~' && i + 1 < end;
        step += is_escape ? (text[++i] == '1' ? '/' : '~') : text[i];
      }
      target = {below(*target.json, step), pointer_to(target.where, step)};
      require(target.json != nullptr, "{}/$ref: the schema has nothing at that place", schema.where);
      at = end;
    }
    return target;
  }

  static std::string decode_percent(const std::string& text) {
    std::string decoded;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool is_code = text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
                           std::isxdigit(static_cast<unsigned char>(text[i + 2]));
      if (is_code) {
        decoded += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        decoded += text[i];
      }
    }
    return decoded;
  }

  static const OrderedJson* below(const OrderedJson& json, const std::string& step) {
    if (json.is_object()) {
      const auto it = json.find(step);
      return it == json.end() ? nullptr : &*it;
    }
    const bool is_index = !step.empty() && step.size() <= 7 && step.find_first_not_of("0123456789") == step.npos;
    if (!json.is_array() || !is_index) return nullptr;
    const size_t index = std::stoul(step);
    return index < json.size() ? &json[index] : nullptr;
  }

  // Each of the ways in which all schemas may hold.
  std::vector<SchemaFacts> facts_of(const Schemas& schemas) {
    std::vector<SchemaFacts> all(1);
    std::vector<std::string> path;
    for (const LocatedSchema& schema : schemas) apply(schema, all, path);
    return all;
  }

  void apply(const LocatedSchema& schema, std::vector<SchemaFacts>& all, std::vector<std::string>& path) {
    for (SchemaFacts& facts : all) {
      work_ += 1 + facts.properties.size() + facts.prefix_items.size() + schema.json->size();
      require(work_ <= kMostWork, "{}: the schemas have too many combinations", schema.where);
      facts.add(schema, options_.ignore_unsupported);
    }
    std::erase_if(all, [](const SchemaFacts& facts) { return facts.types == 0 || (facts.values && facts.values->empty()); });
    if (!schema.json->is_object()) return;
    if (schema.json->contains("$ref")) {
      const LocatedSchema target = resolve(schema);
      const bool is_open = std::find(path.begin(), path.end(), target.where) != path.end();
      require(!is_open && path.size() < kLongestRefChain, "{}/$ref: refers to itself before it says anything", schema.where);
      path.push_back(target.where);
      apply(target, all, path);
      path.pop_back();
    }
    if (schema.json->contains("allOf")) {
      for (const LocatedSchema& part : list_of(schema, "allOf")) apply(part, all, path);
    }
    for (const char* key : {"anyOf", "oneOf"}) {
      if (!schema.json->contains(key)) continue;
      std::vector<SchemaFacts> ways;
      for (const LocatedSchema& branch : list_of(schema, key)) {
        std::vector<SchemaFacts> with_branch = all;
        for (const SchemaFacts& facts : all) work_ += facts.properties.size() + facts.prefix_items.size();
        apply(branch, with_branch, path);
        require(ways.size() + with_branch.size() <= kMostCombinations, "{}/{}: more than {} combinations", schema.where, key,
                kMostCombinations);
        std::move(with_branch.begin(), with_branch.end(), std::back_inserter(ways));
      }
      all = std::move(ways);
    }
  }

  Expr emit(const SchemaFacts& facts, const std::string& where) {
    if (facts.values) return emit_values(facts);
    // Keywords without a type are meant for the type that they speak of.
    const unsigned types = facts.types == kAnyType && facts.spoken_of != 0 ? facts.spoken_of : facts.types;
    if (types == kAnyType && facts.spoken_of == 0) return json_.value();
    std::vector<Expr> ways;
    if (types & kObject) ways.push_back(emit_object(facts, where));
    if (types & kArray) ways.push_back(emit_array(facts, where));
    if (types & kString) ways.push_back(emit_string(facts, where));
    if (types & kFraction) {
      ways.push_back(facts.range.is_limited() ? numbers_in(grammar_, facts.range, where) : json_.number());
    } else if (types & kInteger) {
      ways.push_back(facts.range.is_limited() ? integers_in(grammar_, facts.range, where) : json_.integer());
    }
    if (types & kBoolean) ways.push_back(json_.boolean());
    if (types & kNull) ways.push_back(json_.null());
    return grammar_.choice(std::move(ways));
  }

  Expr emit_values(const SchemaFacts& facts) {
    std::vector<Expr> ways;
    for (const OrderedJson* value : *facts.values) {
      if (!(facts.types & type_of(*value)) || !is_in_limits(facts, *value)) continue;
      ways.push_back(grammar_.text(value->dump()));
    }
    return grammar_.choice(std::move(ways));
  }

  bool is_in_limits(const SchemaFacts& facts, const OrderedJson& value) {
    if (!(facts.spoken_of & type_of(value))) return true;
    if (value.is_number()) return facts.range.contains(value.get<double>());
    const bool is_plain = value.is_string() && !facts.pattern;
    require(is_plain || options_.ignore_unsupported, "{}: enum or const together with other keywords is not supported", facts.values_where);
    if (!value.is_string()) return true;
    const size_t length = count_characters(value.get_ref<const std::string&>());
    return length >= facts.length.min && length <= facts.length.max;
  }

  Expr emit_string(const SchemaFacts& facts, const std::string& where) {
    const std::string_view of_format =
        facts.format ? pattern_of_format(facts.format->json->get_ref<const std::string&>()) : std::string_view();
    if (facts.pattern) {
      try {
        return string_matching(json_, facts.pattern->json->get_ref<const std::string&>(), facts.length, facts.pattern->where);
      } catch (const Error&) {
        // A format says it as well; generators of schemas write both.
        if (of_format.empty() && !options_.ignore_unsupported) throw;
      }
    }
    if (!of_format.empty()) return string_matching(json_, of_format, facts.length, where);
    return json_.string(facts.length.min, facts.length.max);
  }

  Expr emit_array(const SchemaFacts& facts, const std::string& where) {
    const uint32_t named = static_cast<uint32_t>(facts.prefix_items.size());
    const uint32_t min = facts.items_limits.min;
    const uint32_t max = has_false(facts.items) ? std::min(facts.items_limits.max, named) : facts.items_limits.max;
    if (min > max) return grammar_.nothing();
    const Expr item = max > named ? value(facts.items) : grammar_.nothing();
    if (named == 0) return json_.list("[", item, "]", min, max);

    // From the last to the first: the item and what follows, which may be left out behind the least number.
    Expr rest = grammar_.empty();
    if (max > named) {
      const Expr next = grammar_.sequence({json_.comma(), item});
      rest = grammar_.repeat(next, min > named ? min - named : 0, max == kUnlimited ? kUnlimited : max - named);
    }
    for (uint32_t i = std::min(named, max); i-- > 0;) {
      std::vector<Expr> parts = {value(facts.prefix_items[i]), rest};
      if (i > 0) parts.insert(parts.begin(), json_.comma());
      const Expr here = grammar_.sequence(std::move(parts));
      rest = grammar_.rule(where, i >= min ? grammar_.optional(here) : here);
    }
    return grammar_.sequence({grammar_.text("["), json_.space(), rest, json_.space(), grammar_.text("]")});
  }

  struct Member {
    Expr expr;
    bool is_required;
  };

  Expr emit_object(const SchemaFacts& facts, const std::string& where) {
    const bool is_closed = facts.says_additional ? has_false(facts.additional) : options_.closed_objects && !facts.properties.empty();
    const auto is_required = [&](const std::string& name) {
      return std::find(facts.required.begin(), facts.required.end(), name) != facts.required.end();
    };

    std::vector<SchemaFacts::Property> properties = facts.properties;
    for (const std::string& name : facts.required) {
      if (facts.property_at.contains(name)) continue;
      const auto same = [&](const SchemaFacts::Property& property) { return property.name == name; };
      if (std::any_of(properties.begin(), properties.end(), same)) continue;
      if (has_false(facts.additional)) return grammar_.nothing();
      properties.push_back({name, facts.additional});
    }
    if (properties.empty()) return emit_map(facts, is_closed, where);

    std::vector<Member> members;
    std::vector<std::string_view> names;
    size_t required = 0;
    for (const SchemaFacts::Property& property : properties) {
      names.push_back(property.name);
      const bool must_be = is_required(property.name);
      required += must_be;
      if (has_false(property.schemas)) {
        if (must_be) return grammar_.nothing();
        continue;
      }
      members.push_back({json_.member(json_.string_of(property.name), value(property.schemas)), must_be});
    }
    const bool is_counted = facts.min_properties > required || facts.max_properties < members.size() ||
                            (facts.max_properties != SIZE_MAX && !is_closed);
    require(!is_counted || options_.ignore_unsupported,
            "{}: minProperties and maxProperties are not supported together with named properties", where);
    require(facts.property_names.empty() || options_.ignore_unsupported,
            "{}: propertyNames is not supported together with named properties", where);
    std::optional<Expr> other;
    if (!is_closed) other = json_.member(json_.string_but(names), value(facts.additional));
    return members_in_order(members, other, where);
  }

  // Any number of properties whose names don't matter, or matter all alike.
  Expr emit_map(const SchemaFacts& facts, bool is_closed, const std::string& where) {
    const size_t max = is_closed ? 0 : facts.max_properties;
    // The same name twice is one property.
    require(facts.min_properties <= 1 || options_.ignore_unsupported, "{}: minProperties beyond 1 is not supported", where);
    Expr key = json_.string();
    if (!facts.property_names.empty()) {
      std::vector<Expr> ways;
      for (SchemaFacts& of_name : facts_of(facts.property_names)) {
        of_name.types &= kString;
        if (of_name.types != 0) ways.push_back(emit(of_name, facts.property_names[0].where));
      }
      key = grammar_.choice(std::move(ways));
    }
    const Expr item = max > 0 ? json_.member(key, value(facts.additional)) : grammar_.nothing();
    return json_.list("{", item, "}", static_cast<uint32_t>(std::min<size_t>(facts.min_properties, 1)),
                      static_cast<uint32_t>(std::min<size_t>(max, kUnlimited)));
  }

  // For each member two rules: what may come from it on behind others, and what may if it would be the first of all.
  Expr members_in_order(const std::vector<Member>& members, const std::optional<Expr>& other, const std::string& where) {
    Expr behind = grammar_.empty();
    Expr as_first = grammar_.nothing();
    if (other) {
      behind = grammar_.rule(where, grammar_.repeat(grammar_.sequence({json_.comma(), *other}), 0));
      as_first = grammar_.rule(where, grammar_.sequence({*other, behind}));
    }
    bool may_be_empty = true;
    for (size_t i = members.size(); i-- > 0;) {
      const Member& member = members[i];
      const Expr as_next = grammar_.sequence({json_.comma(), member.expr});
      const Expr begins = grammar_.sequence({member.expr, behind});
      may_be_empty &= !member.is_required;
      as_first = grammar_.rule(where, member.is_required ? begins : grammar_.choice({begins, as_first}));
      behind = grammar_.rule(where, grammar_.sequence({member.is_required ? as_next : grammar_.optional(as_next), behind}));
    }
    const Expr all = grammar_.sequence({as_first, json_.space()});
    return grammar_.sequence(
        {grammar_.text("{"), json_.space(), may_be_empty ? grammar_.optional(all) : all, grammar_.text("}")});
  }

  JsonText& json_;
  Grammar& grammar_;
  const OrderedJson& root_;
  const SchemaOptions options_;
  std::map<std::string, RuleId> rules_;
  std::deque<std::pair<RuleId, Schemas>> waiting_;
  size_t work_ = 0;
};

}  // namespace

Expr json_schema(JsonText& json, const OrderedJson& schema, const SchemaOptions& options) {
  return Compiler(json, schema, options).compile();
}

Grammar json_schema_grammar(const OrderedJson& schema, const SchemaOptions& options) {
  Grammar grammar;
  JsonText json(grammar);
  const RuleId root = grammar.add_rule("schema");
  grammar.define(root, json_schema(json, schema, options));
  grammar.set_root(root);
  return grammar;
}

Grammar json_object_grammar() {
  Grammar grammar;
  JsonText json(grammar);
  const RuleId root = grammar.add_rule("json");
  grammar.define(root, json.object());
  grammar.set_root(root);
  return grammar;
}

}  // namespace moiety::grammar
