#include "text/added_tokens.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>

#include "text/test_support.h"

namespace moiety::text {
namespace {

using spec::AddedToken;

// "text|[id]|text"
std::string split(const AddedTokens& tokens, std::string_view text) {
  std::vector<AddedTokens::Part> parts;
  tokens.split(text, {}, parts);
  std::string shown;
  for (const AddedTokens::Part& part : parts) {
    if (!shown.empty()) shown += '|';
    shown += part.id < 0 ? std::string(part.text) : fmt::format("[{}]", part.id);
  }
  return shown;
}

TEST(AddedTokens, AreCutOutOfTheText) {
  const AddedTokens tokens({{.id = 7, .content = "<s>"}, {.id = 8, .content = "中"}});
  EXPECT_EQ(split(tokens, "a<s>b中<s>"), "a|[7]|b|[8]|[7]");
  EXPECT_EQ(split(tokens, "nothing <s here"), "nothing <s here");
  EXPECT_EQ(split(tokens, ""), "");
}

TEST(AddedTokens, TheLongestAtAPlaceWins) {
  const AddedTokens tokens(
      {{.id = 1, .content = "<a>"}, {.id = 2, .content = "<a><b>"}, {.id = 3, .content = "a"}});
  EXPECT_EQ(split(tokens, "<a><b><a>a"), "[2]|[1]|[3]");
  // The leftmost comes first even if a longer one begins inside it.
  EXPECT_EQ(split(AddedTokens({{.id = 1, .content = "ab"}, {.id = 2, .content = "bcd"}}), "abcd"),
            "[1]|cd");
}

TEST(AddedTokens, MayTakeWhiteSpaceAlong) {
  const AddedTokens tokens(
      {{.id = 1, .content = "<l>", .lstrip = true}, {.id = 2, .content = "<r>", .rstrip = true}});
  EXPECT_EQ(split(tokens, "a \n<l> b"), "a|[1]| b");
  EXPECT_EQ(split(tokens, "a <r>\u3000 b"), "a |[2]|b");
  EXPECT_EQ(split(tokens, "<r>  <l>"), "[2]|[1]");
}

TEST(AddedTokens, ASingleWordTouchesNoLetter) {
  const AddedTokens tokens({{.id = 1, .content = "ab", .single_word = true}});
  EXPECT_EQ(split(tokens, "ab cab abé -ab- ab"), "[1]| cab abé -|[1]|- |[1]");
}

TEST(AddedTokens, OverlappingWhiteSpaceDoesNotCrash) {
  const AddedTokens tokens({{.id = 1, .content = "<r>", .rstrip = true},
                            {.id = 2, .content = " ", .lstrip = true, .rstrip = true}});
  EXPECT_EQ(split(tokens, "<r>   a"), "[1]|[2]|[2]|[2]|a");
}

TEST(AddedTokens, ManyStripsTakeNoQuadraticTime) {
  const AddedTokens tokens({{.id = 2, .content = " ", .lstrip = true, .rstrip = true}});
  std::vector<AddedTokens::Part> parts;
  const auto start = std::chrono::steady_clock::now();
  tokens.split(std::string(1'000'000, ' '), {}, parts);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(AddedTokens, PlainPartsAndContentsJoinToTheText) {
  const AddedTokens tokens(
      {{.id = 0, .content = "a"}, {.id = 1, .content = "\u0301"}, {.id = 2, .content = " \n"}});
  const std::string contents[] = {"a", "\u0301", " \n"};
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const std::string text = random_text(seed, 30);
    std::vector<AddedTokens::Part> parts;
    tokens.split(text, {}, parts);
    std::string joined;
    for (const AddedTokens::Part& part : parts)
      joined += part.id < 0 ? part.text : contents[part.id];
    EXPECT_EQ(joined, text);
  }
}

}  // namespace
}  // namespace moiety::text
