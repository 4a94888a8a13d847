#include "base/ordered_json.h"

#include <gtest/gtest.h>

#include <string>

namespace moiety {
namespace {

TEST(OrderedJson, KeysStayInOrder) {
  const char* text = R"({"z":1,"a":{"y":[1,2.5,-3,null,true,"ü"],"b":{}},"m":[]})";
  EXPECT_EQ(to_text(parse_ordered_json(text, "test")), text);
}

TEST(OrderedJson, RefusesInOneSentence) {
  const auto sentence = [](const std::string& text) -> std::string {
    try {
      parse_ordered_json(text, "body");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_TRUE(sentence("{\"a\": }").starts_with("body: not valid JSON"));
  EXPECT_TRUE(sentence("").starts_with("body: not valid JSON"));
  EXPECT_TRUE(sentence("{} {}").starts_with("body: not valid JSON"));
  EXPECT_TRUE(sentence("[1e999]").starts_with("body: not valid JSON"));
  EXPECT_TRUE(sentence("\"\xff\"").starts_with("body: not valid JSON"));
  EXPECT_EQ(sentence(R"({"a":1,"b":2,"a":3})"), "body: \"a\" is there twice in one object");
  EXPECT_EQ(sentence(std::string(101, '[') + std::string(101, ']')), "body: JSON nested deeper than 100 levels");
  EXPECT_EQ(sentence(std::string(100, '[') + std::string(100, ']')), "");
  EXPECT_EQ(sentence(std::string(1 << 25, '[')), "body: JSON nested deeper than 100 levels");
}

// Would take an hour if each key were compared with all before it.
TEST(OrderedJson, ManyKeysAreReadInPassing) {
  std::string text = "{";
  for (int i = 0; i < 400'000; ++i) text += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":0";
  EXPECT_EQ(parse_ordered_json(text + "}", "test").size(), 400'000u);
}

TEST(OrderedJson, HasABoundOnValues) {
  std::string text = "[0";
  for (int i = 0; i < 1'000'000; ++i) text += ",0";
  EXPECT_THROW(parse_ordered_json(text + "]", "test"), Error);
}

}  // namespace
}  // namespace moiety
