#include "grammar/schema_facts.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moiety::grammar {
namespace {

constexpr size_t kMostRequired = 2000, kMostComparedValues = 2000, kLongestPointer = 2000;

struct Keyword {
  std::string_view name;
  unsigned types;  // that it speaks of
  bool is_supported = true;
};
constexpr Keyword kKeywords[] = {
    {"properties", kObject},
    {"required", kObject},
    {"additionalProperties", kObject},
    {"propertyNames", kObject},
    {"minProperties", kObject},
    {"maxProperties", kObject},
    {"patternProperties", kObject, false},
    {"dependencies", kObject, false},
    {"dependentRequired", kObject, false},
    {"dependentSchemas", kObject, false},
    {"unevaluatedProperties", kObject, false},
    {"items", kArray},
    {"prefixItems", kArray},
    {"additionalItems", kArray},
    {"minItems", kArray},
    {"maxItems", kArray},
    {"uniqueItems", kArray, false},
    {"contains", kArray, false},
    {"minContains", kArray, false},
    {"maxContains", kArray, false},
    {"unevaluatedItems", kArray, false},
    {"minLength", kString},
    {"maxLength", kString},
    {"pattern", kString},
    {"format", kString},
    {"minimum", kInteger | kFraction},
    {"maximum", kInteger | kFraction},
    {"exclusiveMinimum", kInteger | kFraction},
    {"exclusiveMaximum", kInteger | kFraction},
    {"multipleOf", kInteger | kFraction, false},
    {"not", 0, false},
    {"if", 0, false},
    {"then", 0, false},
    {"else", 0, false},
    {"$dynamicRef", 0, false},
    {"$recursiveRef", 0, false},
    {"type", 0},
    {"nullable", 0},
    {"enum", 0},
    {"const", 0},
    {"$ref", 0},
    {"allOf", 0},
    {"anyOf", 0},
    {"oneOf", 0},
};

const Keyword* find_keyword(std::string_view name) {
  for (const Keyword& keyword : kKeywords) {
    if (keyword.name == name) return &keyword;
  }
  return nullptr;
}

// Keywords that can't be honoured in general and say nothing as they stand here.
bool says_nothing(std::string_view keyword, const OrderedJson& value) {
  if (keyword == "uniqueItems") return value == false;
  if (keyword == "minContains") return value == 0;
  if (keyword == "multipleOf") return value == 1;
  if (keyword == "unevaluatedProperties" || keyword == "unevaluatedItems") return value == true;
  if (keyword == "patternProperties" || keyword.starts_with("depend")) return value.is_object() && value.empty();
  return false;
}

const OrderedJson* find(const LocatedSchema& schema, const char* key) {
  const auto it = schema.json->find(key);
  return it == schema.json->end() ? nullptr : &*it;
}

const OrderedJson* find_array(const LocatedSchema& schema, const char* key) {
  const OrderedJson* value = find(schema, key);
  require(value == nullptr || value->is_array(), "{}/{}: expected a list", schema.where, key);
  return value;
}

std::optional<double> find_number(const LocatedSchema& schema, const char* key) {
  const OrderedJson* value = find(schema, key);
  if (value == nullptr) return std::nullopt;
  require(value->is_number() && std::isfinite(value->get<double>()), "{}/{}: expected a number", schema.where, key);
  return value->get<double>();
}

void limit(uint32_t& min, uint32_t& max, const LocatedSchema& schema, const char* min_key, const char* max_key) {
  const auto count = [&](const char* key) {
    const std::optional<double> value = find_number(schema, key);
    require(!value || (*value >= 0 && *value == std::floor(*value)), "{}/{}: expected a whole number, 0 or more", schema.where, key);
    return value;
  };
  constexpr double kMost = 1e9;
  if (const auto value = count(min_key)) {
    require(*value <= kMost, "{}/{}: more than {}", schema.where, min_key, kMost);
    min = std::max(min, static_cast<uint32_t>(*value));
  }
  if (const auto value = count(max_key); value && *value <= kMost) max = std::min(max, static_cast<uint32_t>(*value));
}

}  // namespace

unsigned type_of(const OrderedJson& value) {
  if (value.is_null()) return kNull;
  if (value.is_boolean()) return kBoolean;
  if (value.is_string()) return kString;
  if (value.is_array()) return kArray;
  if (value.is_object()) return kObject;
  if (value.is_number_integer()) return kInteger;
  return std::floor(value.get<double>()) == value.get<double>() ? kInteger : kFraction;
}

bool is_assertion(std::string_view keyword) {
  return find_keyword(keyword) != nullptr;
}

std::string pointer_to(const std::string& where, std::string_view key) {
  std::string pointer = where + "/";
  for (const char c : key) pointer += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  require(pointer.size() <= kLongestPointer, "{}: a schema inside of names that are too long", where);
  return pointer;
}

void SchemaFacts::add(const LocatedSchema& schema, bool ignore_unsupported) {
  if (schema.json->is_boolean()) {
    if (!schema.json->get<bool>()) types = 0;
    return;
  }
  require(schema.json->is_object(), "{}: expected a schema, which is an object, true or false", schema.where);
  for (const auto& [name, value] : schema.json->items()) {
    const Keyword* keyword = find_keyword(name);
    if (keyword == nullptr) continue;
    const bool is_passed_over = !keyword->is_supported && (says_nothing(name, value) || ignore_unsupported);
    require(keyword->is_supported || is_passed_over, "{}: the keyword \"{}\" is not supported", schema.where, name);
    if (!is_passed_over) spoken_of |= keyword->types;
  }
  add_types(schema);
  add_values(schema);
  add_object(schema);
  add_array(schema);
  add_string(schema);
  add_number(schema);
}

void SchemaFacts::add_types(const LocatedSchema& schema) {
  const OrderedJson* type = find(schema, "type");
  if (type == nullptr) return;
  static constexpr std::pair<std::string_view, unsigned> kTypes[] = {
      {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger}, {"number", kInteger | kFraction},
      {"string", kString}, {"array", kArray},     {"object", kObject}};
  unsigned allowed = 0;
  const auto allow = [&](const OrderedJson& name) {
    const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return name == t.first; });
    require(known != std::end(kTypes), "{}/type: expected the name of a JSON type", schema.where);
    allowed |= known->second;
  };
  if (type->is_array()) {
    for (const OrderedJson& name : *type) allow(name);
  } else {
    allow(*type);
  }
  const OrderedJson* nullable = find(schema, "nullable");  // OpenAPI 3.0
  if (nullable != nullptr && *nullable == true) allowed |= kNull;
  types &= allowed;
}

void SchemaFacts::add_values(const LocatedSchema& schema) {
  const auto keep = [&](const std::vector<const OrderedJson*>& allowed) {
    values_where = schema.where;
    if (!values) {
      values = allowed;
      return;
    }
    require(values->size() <= kMostComparedValues && allowed.size() <= kMostComparedValues,
            "{}: lists of more than {} values to be compared", schema.where, kMostComparedValues);
    std::erase_if(*values, [&](const OrderedJson* value) {
      return std::none_of(allowed.begin(), allowed.end(), [&](const OrderedJson* other) { return *other == *value; });
    });
  };
  if (const OrderedJson* list = find_array(schema, "enum")) {
    std::vector<const OrderedJson*> allowed;
    for (const OrderedJson& value : *list) allowed.push_back(&value);
    keep(allowed);
  }
  if (const OrderedJson* value = find(schema, "const")) keep({value});
}

// A property that one schema names is, to another that doesn't, an additional one.
void SchemaFacts::add_object(const LocatedSchema& schema) {
  const OrderedJson* named = find(schema, "properties");
  const OrderedJson* others = find(schema, "additionalProperties");
  require(named == nullptr || named->is_object(), "{}/properties: expected an object", schema.where);
  const LocatedSchema of_others{others, schema.where + "/additionalProperties"};
  for (Property& property : properties) {
    const bool is_named = named != nullptr && named->contains(property.name);
    if (!is_named && others != nullptr) property.schemas.push_back(of_others);
  }
  if (named != nullptr) {
    for (const auto& [name, value] : named->items()) {
      const auto [entry, is_new] = property_at.try_emplace(name, properties.size());
      if (is_new) properties.push_back({name, additional});
      properties[entry->second].schemas.push_back({&value, pointer_to(schema.where + "/properties", name)});
    }
  }
  if (others != nullptr) {
    additional.push_back(of_others);
    says_additional = true;
  }
  if (const OrderedJson* list = find_array(schema, "required")) {
    for (const OrderedJson& name : *list) {
      require(name.is_string(), "{}/required: expected a list of names", schema.where);
      required.push_back(name.get<std::string>());
      require(required.size() <= kMostRequired, "{}/required: more than {} names", schema.where, kMostRequired);
    }
  }
  if (const OrderedJson* names = find(schema, "propertyNames")) property_names.push_back({names, schema.where + "/propertyNames"});
  uint32_t min = 0, max = kUnlimited;
  limit(min, max, schema, "minProperties", "maxProperties");
  min_properties = std::max<size_t>(min_properties, min);
  if (max != kUnlimited) max_properties = std::min<size_t>(max_properties, max);
}

void SchemaFacts::add_array(const LocatedSchema& schema) {
  // Before 2020-12 a list of schemas stood in "items", and what came behind in "additionalItems".
  const OrderedJson* list = find_array(schema, "prefixItems");
  const OrderedJson* rest = find(schema, "items");
  std::string list_where = schema.where + "/prefixItems", rest_where = schema.where + "/items";
  if (rest != nullptr && rest->is_array()) {
    list = rest;
    list_where = rest_where;
    rest = find(schema, "additionalItems");
    rest_where = schema.where + "/additionalItems";
  }
  const size_t count = list == nullptr ? 0 : list->size();
  while (prefix_items.size() < count) prefix_items.push_back(items);
  for (size_t i = 0; i < prefix_items.size(); ++i) {
    if (i < count) {
      prefix_items[i].push_back({&(*list)[i], list_where + "/" + std::to_string(i)});
    } else if (rest != nullptr) {
      prefix_items[i].push_back({rest, rest_where});
    }
  }
  if (rest != nullptr) items.push_back({rest, rest_where});
  limit(items_limits.min, items_limits.max, schema, "minItems", "maxItems");
}

void SchemaFacts::add_string(const LocatedSchema& schema) {
  limit(length.min, length.max, schema, "minLength", "maxLength");
  const auto keep = [&](std::optional<LocatedSchema>& kept, const char* key) {
    const OrderedJson* value = find(schema, key);
    if (value == nullptr) return;
    require(value->is_string(), "{}/{}: expected a text", schema.where, key);
    require(!kept || *kept->json == *value, "{}: two keywords \"{}\" at the same time are not supported", schema.where, key);
    kept = LocatedSchema{value, schema.where};
  };
  keep(pattern, "pattern");
  keep(format, "format");
}

void SchemaFacts::add_number(const LocatedSchema& schema) {
  // In draft 4, and so in OpenAPI 3.0, exclusiveMinimum was true or false.
  const auto is_true = [&](const char* key) { return find(schema, key) != nullptr && *find(schema, key) == true; };
  const auto is_number = [&](const char* key) { return find(schema, key) != nullptr && !find(schema, key)->is_boolean(); };
  if (const auto value = find_number(schema, "minimum")) range.add_low({*value, is_true("exclusiveMinimum")});
  if (const auto value = find_number(schema, "maximum")) range.add_high({*value, is_true("exclusiveMaximum")});
  if (is_number("exclusiveMinimum")) range.add_low({*find_number(schema, "exclusiveMinimum"), true});
  if (is_number("exclusiveMaximum")) range.add_high({*find_number(schema, "exclusiveMaximum"), true});
}

}  // namespace moiety::grammar
