#include "grammar/json_schema.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/error.h"
#include "grammar/test_support.h"

namespace moiety::grammar {
namespace {

Matcher matcher_of_schema(const std::string& schema, const SchemaOptions& options = {}) {
  return matcher_of(json_schema_grammar(parse_ordered_json(schema, "schema"), options));
}

void expect_documents(const std::string& schema, const std::vector<std::string>& in, const std::vector<std::string>& out,
                      const SchemaOptions& options = {}) {
  try {
    Matcher matcher = matcher_of_schema(schema, options);
    for (const std::string& text : in) {
      size_t fits = 0;
      while (fits < text.size() && accepts(matcher, text.substr(0, fits + 1), false)) ++fits;
      EXPECT_TRUE(accepts(matcher, text)) << schema << "\n" << text << "\nnot behind " << text.substr(0, fits);
    }
    for (const std::string& text : out) EXPECT_FALSE(accepts(matcher, text)) << schema << "\n" << text;
  } catch (const Error& error) {
    ADD_FAILURE() << schema << "\n" << error.what();
  }
}

std::string refusal(const std::string& schema) {
  try {
    matcher_of_schema(schema);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(JsonSchema, Types) {
  expect_documents(R"({"type": "null"})", {"null"}, {"", "nul", "nulll", "0"});
  expect_documents(R"({"type": "boolean"})", {"true", "false"}, {"1", "True"});
  expect_documents(R"({"type": "integer"})", {"0", "-1", "1234567890123456"}, {"01", "1.0", "1e3", "-", "12345678901234567", "+1"});
  expect_documents(R"({"type": "number"})", {"0", "-0.5", "1e10", "1.25E-3"}, {".5", "1.", "1e", "1e100", "NaN"});
  expect_documents(R"({"type": ["string", "null"]})", {"null", "\"\"", "\"null\""}, {"1", "true"});
  expect_documents(R"({"type": "string", "nullable": true, "maxLength": 1})", {"null", "\"a\""}, {"\"ab\""});
  expect_documents("{}", {"1", "[1, {\"a\": null}]", "{}", "\"x\""}, {"", "{", "{\"a\": }", "[1,]"});
  expect_documents("true", {"1", "[]"}, {"x"});
}

TEST(JsonSchema, Strings) {
  expect_documents(R"({"type": "string"})",
                   {R"("")", R"("a\"b\\\/\n")", R"("é中🙂")", R"("\u00e9\uD83D\ude42")", "\"\x7f\""},
                   {"\"\n\"", "\"\\x\"", R"("\ud83d")", R"("\ude42")", R"("\ud83dx")", "\"a", "\"\xff\"", "\"\xc3\""});
  expect_documents(R"({"type": "string", "minLength": 2, "maxLength": 3})", {"\"ab\"", "\"é中🙂\"", R"("a\n\ud83d\ude42")"},
                   {"\"a\"", "\"abcd\""});
}

TEST(JsonSchema, GiantsAreRefusedBeforeTheyAreLookedThrough) {
  const auto refused = [](const OrderedJson& schema) { EXPECT_THROW(json_schema_grammar(schema), Error); };
  OrderedJson wide = {{"$defs", OrderedJson::object()}, {"anyOf", OrderedJson::array()}};
  auto& definitions = static_cast<OrderedJson::object_t::Container&>(wide["$defs"].get_ref<OrderedJson::object_t&>());
  for (int i = 0; i < 50'000; ++i) {
    definitions.emplace_back(std::to_string(i), OrderedJson{{"type", "null"}});
    wide["anyOf"].push_back({{"$ref", "#/$defs/" + std::to_string(i)}});
  }
  refused(wide);
  OrderedJson deep = {{"type", "null"}};
  for (int i = 0; i < 70; ++i) deep = {{"items", deep}};
  refused(deep);
  refused({{"enum", std::vector<int>(200'001, 1)}});
}

TEST(JsonSchema, Integers) {
  expect_documents(R"({"type": "integer", "minimum": -5, "exclusiveMaximum": 120})", {"-5", "0", "7", "10", "99", "119"},
                   {"-6", "120", "-10", "007", "-0", "1000"});
  expect_documents(R"({"type": "integer", "minimum": 1.5})", {"2", "15", "20", "9999999999999999"}, {"1", "0", "-2"});
  expect_documents(R"({"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991})",
                   {"9007199254740991", "-9007199254740991", "0"}, {"9007199254740992"});
  expect_documents(R"({"type": "integer", "minimum": 5, "exclusiveMinimum": true})", {"6"}, {"5"});
}

RC_GTEST_PROP(JsonSchema, IntegersInARangeAndNoOthers, (uint64_t seed)) {
  Random random(seed);
  const auto any = [&] { return static_cast<int64_t>(random.below(random.below(2) ? 30 : 30'000)) - (random.below(2) ? 15 : 15'000); };
  int64_t low = any(), high = any();
  if (low > high) std::swap(low, high);
  const OrderedJson schema = {{"type", "integer"}, {"minimum", low}, {"maximum", high}};
  Matcher matcher = matcher_of(json_schema_grammar(schema));
  for (int64_t number : {low - 1, low, low + 1, high - 1, high, high + 1, any(), any(), any(), int64_t{0}, -low, -high}) {
    RC_ASSERT(accepts(matcher, std::to_string(number)) == (number >= low && number <= high));
  }
  RC_ASSERT(!accepts(matcher, std::to_string(low) + "0000000"));
}

RC_GTEST_PROP(JsonSchema, NumbersInARangeAndNoOthers, (uint64_t seed)) {
  Random random(seed);
  const auto any = [&] {
    static constexpr double kScales[] = {1, 10, 100, 1000};
    return (static_cast<double>(random.below(4000)) - 2000) / kScales[random.below(4)];
  };
  double low = any(), high = any();
  if (low > high) std::swap(low, high);
  const bool open_low = random.below(2), open_high = random.below(2);
  RC_PRE(low < high);
  const OrderedJson schema = {{"type", "number"}, {open_low ? "exclusiveMinimum" : "minimum", low}, {open_high ? "exclusiveMaximum" : "maximum", high}};
  Matcher matcher = matcher_of(json_schema_grammar(schema));
  const auto check = [&](std::string text) {
    const double number = std::stod(text);
    if (number == 0 && text[0] == '-') return;  // valid, but never written
    RC_LOG() << schema.dump() << " " << text << "\n";
    RC_ASSERT(accepts(matcher, text) == ((open_low ? number > low : number >= low) && (open_high ? number < high : number <= high)));
  };
  for (const double number : {low, high, any(), any(), any(), low + 0.001, low - 0.001, high - 0.001, high + 0.001, low / 10, high * 10}) {
    const std::string text = fmt::format("{:.4f}", number);
    if (number == 0 || text == "-0.0000") continue;
    check(text);
    check(text.substr(0, text.size() - 2));
    check(fmt::format("{}", static_cast<int64_t>(number)));
  }
  Random sampling(seed + 1);
  for (int i = 0; i < 20; ++i) check(random_text_of(matcher, sampling, 5));
}

TEST(JsonSchema, Objects) {
  const std::string schema = R"({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}, "c": {"type": "null"}},
    "required": ["a"]})";
  expect_documents(schema, {R"({"a":""})", R"({ "b": 1, "a": "x", "c": null })", "{\n  \"b\": 1,\n  \"a\": \"\"\n}", R"({"a":"","c":null})"},
                   {"{}", R"({"b":1})", R"({"a":"","b":1})", R"({"a":"","d":1})", R"({"a":"",})", R"({,"a":""})", "{\n\n\"a\":\"\"}", R"({"a":1})"});
  expect_documents(schema, {R"({"a":"","d":[1]})", R"({"a":"","dd":1,"":2,"aa":3})"}, {R"({"a":"","a":1})", R"({"a":"","\u0061":1})"},
                   {.closed_objects = false});
  expect_documents(R"({"type": "object"})", {"{}", R"({"x": {}})"}, {"[]"});
  expect_documents(R"({"type": "object", "additionalProperties": false})", {"{}", "{ }"}, {R"({"x": 1})"});
  expect_documents(R"({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2, "minProperties": 1})",
                   {R"({"x": 1})", R"({"x": 1, "y": 2})"}, {R"({"x": ""})", "{}", R"({"x": 1, "y": 2, "z": 3})"});
  expect_documents(R"({"properties": {"a": {}, "b": {}}})", {"{}", R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"}, {R"({"b":1,"a":2})", "1"});
  expect_documents(R"({"type": "object", "required": ["q\"é"], "additionalProperties": {"type": "integer"}})",
                   {R"({"q\"é":1})", R"({"q\"é":1,"q":2,"q\"":3,"q\"éé":3,"\n":3})"}, {"{}", R"({"q\"é":""})", R"({"q\"é":1,"q\"é":1})"});
  expect_documents(R"({"type": "object", "properties": {"a": false, "b": true}, "additionalProperties": true})", {R"({"b":1})", R"({"c":1})"},
                   {R"({"a":1})"});
  expect_documents(R"({"type": "object", "propertyNames": {"enum": ["x", "y"]}, "additionalProperties": {"type": "null"}})",
                   {"{}", R"({"x": null, "y": null})"}, {R"({"z": null})"});
}

TEST(JsonSchema, Arrays) {
  expect_documents(R"({"type": "array", "items": {"type": "integer"}})", {"[]", "[ ]", "[1]", "[1, 2,3]", "[\n  1,\n  2\n]"}, {"[,]", "[1,]", "[\"\"]"});
  expect_documents(R"({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3})", {"[1,2]", "[1,2,3]"}, {"[]", "[1]", "[1,2,3,4]"});
  expect_documents(R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"});
  const std::vector<std::string> in = {"[]", "[1]", "[1,\"\"]", "[1, \"\", null, null]"}, out = {"[\"\"]", "[1,2]", "[1,\"\",1]"};
  expect_documents(R"({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}})", in, out);
  expect_documents(R"({"items": [{"type": "integer"}, {"type": "string"}], "additionalItems": {"type": "null"}})", in, out);
  expect_documents(R"({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false, "minItems": 1})", {"[1]", "[1,\"\"]"},
                   {"[]", "[1,\"\",null]"});
  expect_documents(R"({"prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 3, "maxItems": 4})", {"[1,\"\",true]", "[1,\"\",[],{}]"},
                   {"[1,\"\"]", "[1,\"\",1,1,1]"});
}

TEST(JsonSchema, Values) {
  expect_documents(R"({"enum": ["a", 1, null, {"x": [1]}, "é\""]})", {"\"a\"", "1", "null", R"({"x":[1]})", R"("é\"")"}, {"\"b\"", "a", "2"});
  expect_documents(R"({"type": "string", "enum": ["a", 1]})", {"\"a\""}, {"1"});
  expect_documents(R"({"const": "x"})", {"\"x\""}, {"\"y\""});
  expect_documents(R"({"const": 1, "enum": [1, 2]})", {"1"}, {"2"});
  expect_documents(R"({"enum": [1, 5, 9], "minimum": 3})", {"5", "9"}, {"1"});
}

TEST(JsonSchema, Combinators) {
  expect_documents(R"({"anyOf": [{"type": "integer"}, {"type": "string"}]})", {"1", "\"\""}, {"null"});
  expect_documents(R"({"oneOf": [{"type": "integer", "minimum": 5}, {"const": "x"}]})", {"5", "\"x\""}, {"4", "\"\""});
  expect_documents(R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                                 {"properties": {"a": {"minimum": 5}, "b": {"type": "null"}}, "required": ["b"]}]})",
                   {R"({"a":5,"b":null})"}, {R"({"a":4,"b":null})", R"({"a":5})"});
  expect_documents(R"({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]})",
                   {R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"}, {"{}"});
  expect_documents(R"({"allOf": [{"properties": {"a": {}}, "additionalProperties": false}, {"properties": {"b": {}}}]})", {"{}", R"({"a":1})"}, {R"({"b":1})"});
  expect_documents(R"({"allOf": [{"type": ["integer", "string"]}, {"type": ["number", "null"]}]})", {"1"}, {"1.5", "null", "\"\""});
}

TEST(JsonSchema, References) {
  expect_documents(R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                      "required": ["next"]}}})",
                   {R"({"next":null})", R"({"next":{"next":{"next":null}}})"}, {"{}", R"({"next":{}})"});
  expect_documents(R"({"type": "array", "items": {"$ref": "#"}})", {"[]", "[[],[[]]]"}, {"[1]"});
  expect_documents(R"({"$ref": "#/definitions/a~1b%25", "definitions": {"a/b%": {"type": "integer"}}})", {"1"}, {"\"\""});
  expect_documents(R"({"$ref": "#/$defs/a", "minimum": 3, "$defs": {"a": {"type": "integer"}}})", {"3"}, {"2"});
  expect_documents(R"({"$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/a"}}, "additionalProperties": false},
                                 "b": {"properties": {"x": {"$ref": "#/$defs/b"}}}}, "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]})",
                   {"{}", R"({"x":{"x":{}}})"}, {R"({"y":1})", R"({"x":{"y":1}})"});
}

TEST(JsonSchema, Patterns) {
  expect_documents(R"({"type": "string", "pattern": "^[a-c]+(-\\d{2,3})?$"})", {"\"a\"", "\"abc-12\""}, {"\"\"", "\"a-1\"", "\"d\"", "\"xa\""});
  expect_documents(R"({"type": "string", "pattern": "b"})", {"\"b\"", "\"abc\"", R"("\nb\"")"}, {"\"ac\""});
  expect_documents(R"({"type": "string", "pattern": "^a|b$"})", {"\"ax\"", "\"xb\""}, {"\"xax\"", "\"bx\""});
  expect_documents(R"({"type": "string", "pattern": "^[^\\w\\s]\"\\\\\\n.$"})", {R"("-\"\\\n🙂")"}, {R"("a\"\\\nx")", "\"-\"\\\n🙂\""});
  expect_documents(R"({"type": "string", "pattern": "^[a-z]+$", "minLength": 3, "maxLength": 4})", {"\"abc\"", "\"abcd\""}, {"\"ab\"", "\"abcde\""});
  expect_documents(R"({"type": "string", "pattern": "^(?:a|(?<n>b))*?\\u0041\\u{1f642}$"})", {"\"A🙂\"", "\"abbaA🙂\""}, {"\"a\""});
  EXPECT_NE(refusal(R"({"type": "string", "pattern": "^(?!x)a$"})"), "");
  EXPECT_NE(refusal(R"({"type": "string", "pattern": "(a)\\1"})"), "");
  EXPECT_NE(refusal(R"({"type": "string", "pattern": "\\p{L}"})"), "");
  EXPECT_NE(refusal(R"({"type": "string", "pattern": "a\\b"})"), "");
  EXPECT_NE(refusal(R"({"type": "string", "pattern": "^(ab)+$", "maxLength": 3})"), "");
  for (const char* broken : {"(", ")", "[", "a{2,1}", "*", "a**", "\\\\", "[z-a]", "(?<", "(?<a", "\\\\u12", "a{999999999}", "(?", "\\\\x"}) {
    EXPECT_NE(refusal(std::string(R"({"type": "string", "pattern": ")") + broken + "\"}"), "") << broken;
  }
}

TEST(JsonSchema, Formats) {
  expect_documents(R"({"type": "string", "format": "date"})", {"\"2024-02-29\"", "\"2000-02-29\"", "\"2023-12-31\""},
                   {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"23-01-01\""});
  expect_documents(R"({"type": "string", "format": "date-time"})", {"\"2024-02-29T23:59:59Z\"", "\"2024-01-01T00:00:00.123+01:30\""},
                   {"\"2024-01-01\"", "\"2024-01-01T24:00:00Z\"", "\"2024-01-01T00:00:00\""});
  expect_documents(R"({"type": "string", "format": "uuid"})", {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""});
  expect_documents(R"({"type": "string", "format": "email", "maxLength": 254})", {"\"a.b+c@ex-ample.org\""}, {"\"a@b\"", "\".a@b.org\"", "\"a b@c.de\""});
  expect_documents(R"({"type": "string", "format": "ipv4"})", {"\"255.0.12.9\""}, {"\"256.0.0.1\"", "\"1.2.3\""});
  expect_documents(R"({"type": "string", "format": "unheard-of"})", {"\"x\""}, {});
  expect_documents(R"({"type": "string", "format": "email", "pattern": "^(?!\\.)x$"})", {"\"a@b.org\""}, {"\"x\""});
}

TEST(JsonSchema, RefusalsNameThePlace) {
  EXPECT_EQ(refusal(R"({"properties": {"a/b": {"type": "array", "uniqueItems": true}}})"),
            "#/properties/a~1b: the keyword \"uniqueItems\" is not supported");
  EXPECT_EQ(refusal(R"({"type": "thing"})"), "#/type: expected the name of a JSON type");
  EXPECT_EQ(refusal(R"({"$ref": "http://x/y"})"), "#/$ref: only references inside the schema (#/…) are supported");
  EXPECT_EQ(refusal(R"({"$ref": "#/$defs/a"})"), "#/$ref: the schema has nothing at that place");
  EXPECT_EQ(refusal(R"({"$ref": "#"})"), "grammar: the rule \"#\" begins with itself (left recursion)");
  EXPECT_EQ(refusal(R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})"), "grammar: no text of the rule \"schema\" ever ends");
  EXPECT_EQ(refusal(R"({"allOf": [{"$ref": "#"}]})"), "#/allOf/0/$ref: refers to itself before it says anything");
  EXPECT_EQ(refusal(R"({"allOf": [{"type": "string"}, {"type": "null"}]})"), "grammar: no text of the rule \"schema\" ever ends");
  for (const char* schema : {"1", "[]", R"({"properties": []})", R"({"items": 3})", R"({"enum": 3})", R"({"anyOf": []})", R"({"anyOf": {}})",
                             R"({"required": "a"})", R"({"required": [1]})", R"({"minLength": -1})", R"({"minimum": "a"})", R"({"type": [1]})",
                             R"({"not": {}})", R"({"multipleOf": 3})", R"({"if": {}})", R"({"patternProperties": {"a": {}}})", R"({"$ref": 1})",
                             R"({"pattern": 3})", R"({"type": "object", "minProperties": 2})", R"({"minItems": 1e300})"}) {
    EXPECT_NE(refusal(schema), "") << schema;
  }
  expect_documents(R"({"type": "array", "uniqueItems": true, "items": {"type": "null"}})", {"[null]"}, {"[1]"}, {.ignore_unsupported = true});
  expect_documents(R"({"$schema": "x", "title": 1, "description": 2, "default": 3, "uniqueItems": false, "x-y": {}, "type": "null"})", {"null"}, {});
}

TEST(JsonSchema, HostileSchemasAreRefused) {
  std::string deep, references = R"({"$defs": {"a0": {"type": "integer"})", pairs = references;
  for (int i = 0; i < 500; ++i) deep += R"({"items": )";
  for (int i = 1; i <= 60; ++i) {
    const std::string to = "{\"$ref\": \"#/$defs/a" + std::to_string(i - 1) + "\"}";
    references += ", \"a" + std::to_string(i) + "\": {\"allOf\": [" + to + ", " + to + "]}";
    pairs += ", \"a" + std::to_string(i) + "\": {\"allOf\": [{\"anyOf\": [" + to + ", {\"minimum\": 1}]}, {\"anyOf\": [{\"maximum\": 3}, " + to + "]}]}";
  }
  EXPECT_NE(refusal(deep), "");
  EXPECT_NE(refusal(references + R"(}, "$ref": "#/$defs/a60"})"), "");
  EXPECT_NE(refusal(pairs + R"(}, "$ref": "#/$defs/a60"})"), "");
  std::string wide = R"({"properties": {"a0": true)";
  for (int i = 1; i < 5000; ++i) wide += ", \"a" + std::to_string(i) + "\": true";
  EXPECT_NE(refusal(wide + "}}"), "");
  std::string list = "[0";
  for (int i = 1; i < 50'000; ++i) list += "," + std::to_string(i);
  EXPECT_NE(refusal("{\"allOf\": [{\"enum\": " + list + "]}, {\"enum\": " + list + "]}]}"), "");
  EXPECT_NE(refusal("{\"properties\": {\"" + std::string(100'000, 'a') + "\": {}}}"), "");
}

TEST(JsonSchema, ManyOptionalPropertiesStayCheap) {
  OrderedJson schema = {{"type", "object"}, {"additionalProperties", true}};
  for (int i = 0; i < 900; ++i) schema["properties"]["property" + std::to_string(i)] = {{"type", "integer"}};
  Matcher matcher = matcher_of(json_schema_grammar(schema));
  matcher.allow_work(200'000);
  EXPECT_TRUE(accepts(matcher, R"({"property3":1,"property899":2,"other":3})"));
  EXPECT_FALSE(accepts(matcher, R"({"property899":1,"property3":2})"));
}

TEST(JsonObject, IsAnyObject) {
  Matcher matcher = matcher_of(json_object_grammar());
  EXPECT_TRUE(accepts(matcher, R"({"a": [1, {"b": "\u00e9"}], "": -1.5e3})"));
  EXPECT_FALSE(accepts(matcher, "[1]"));
  EXPECT_FALSE(accepts(matcher, "{}\n"));
  EXPECT_FALSE(accepts(matcher, "{   ", false));
  EXPECT_FALSE(accepts(matcher, "{\n\n", false));
}

RC_GTEST_PROP(JsonObject, TextsByChanceParse, (uint64_t seed)) {
  Random random(seed);
  Matcher matcher = matcher_of(json_object_grammar());
  const std::string text = random_text_of(matcher, random, random.below(200));
  RC_ASSERT(OrderedJson::parse(text, nullptr, false).is_object());
}

}  // namespace
}  // namespace moiety::grammar
