#include "base/json.h"

#include <gtest/gtest.h>

namespace moiety {
namespace {

std::string message_of(auto&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, DeepNestingIsRefusedInsteadOfOverflowingTheStack) {
  const std::string deep = std::string(1'000'000, '[');
  EXPECT_EQ(message_of([&] { parse_json(deep, "x.json"); }), "x.json: JSON nested deeper than 100 levels");
}

TEST(Json, ASyntaxErrorNamesTheFileAndThePlace) {
  const std::string message = message_of([] { parse_json("{\"a\": 1,\n oops}", "x.json"); });
  EXPECT_TRUE(message.starts_with("x.json: not valid JSON: parse error at line 2")) << message;
}

TEST(Json, ANumberTooLargeForADoubleIsAnErrorAndNotACrash) {
  EXPECT_EQ(message_of([] { parse_json("[9.9e752]", "x"); }), "x: not valid JSON: number overflow parsing '9.9e752'");
}

TEST(Json, InvalidUtf8IsAnErrorAndNotACrash) { EXPECT_THROW(parse_json("\"\xff\xfe\"", "x"), Error); }

TEST(Json, IntegersAreCheckedForKindAndRange) {
  const Json json = parse_json(R"({"a": 3, "big": 18446744073709551615, "f": 1.5, "s": "1", "n": null})", "x");
  const JsonObject object(json, "x");
  EXPECT_EQ(object.integer("a", 0, 10), 3);
  EXPECT_EQ(message_of([&] { object.integer("a", 4, 10); }), "x: \"a\" must be an integer from 4 to 10, found 3");
  EXPECT_NE(message_of([&] { object.integer("big", 0, INT64_MAX); }), "no error");
  EXPECT_NE(message_of([&] { object.integer("f", 0, 10); }), "no error");
  EXPECT_NE(message_of([&] { object.integer("s", 0, 10); }), "no error");
  EXPECT_EQ(message_of([&] { object.integer("n", 0, 10); }), "x: \"n\" is missing");
  EXPECT_EQ(object.integer("n", 0, 10, 7), 7);
}

}  // namespace
}  // namespace moiety
