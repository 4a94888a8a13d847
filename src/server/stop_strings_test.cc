#include "server/stop_strings.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace moiety::server {
namespace {

struct Cut {
  std::string text;
  std::optional<std::string> found;
};

Cut in_pieces(const std::string& text, const std::vector<std::string>& strings, const std::vector<size_t>& pieces) {
  StopStrings stops(strings);
  Cut cut;
  size_t at = 0;
  for (const size_t bytes : pieces) {
    const std::string_view piece = std::string_view(text).substr(std::min(at, text.size()), bytes);
    at += piece.size();
    cut.text += stops.push(piece);
  }
  cut.text += stops.push(std::string_view(text).substr(at));
  cut.found = stops.found();
  if (!cut.found) cut.text += stops.finish();
  return cut;
}

// Byte by byte, looking at everything again each time.
Cut by_definition(const std::string& text, const std::vector<std::string>& strings) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string so_far = text.substr(0, end);
    std::optional<std::string> longest;
    for (const std::string& string : strings) {
      if (so_far.ends_with(string) && (!longest || string.size() > longest->size())) longest = string;
    }
    if (longest) return {so_far.substr(0, end - longest->size()), longest};
  }
  return {text, std::nullopt};
}

RC_GTEST_PROP(StopStrings, PiecesMakeNoDifference, ()) {
  const auto letters = [](int low, int high) {
    return rc::gen::resize(high, rc::gen::suchThat(rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c')),
                                                   [low](const std::string& s) { return static_cast<int>(s.size()) >= low; }));
  };
  const std::string text = *letters(0, 40);
  const auto strings = *rc::gen::resize(4, rc::gen::container<std::vector<std::string>>(letters(1, 5)));
  const auto pieces = *rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(0, 6));
  const Cut expected = by_definition(text, strings), cut = in_pieces(text, strings, pieces);
  RC_ASSERT(cut.text == expected.text);
  RC_ASSERT(cut.found == expected.found);
}

TEST(StopStrings, HoldsBackNoMoreThanItMust) {
  StopStrings stops({"<end>", "\n\n"});
  EXPECT_EQ(stops.push("one<"), "one");
  EXPECT_EQ(stops.push("e"), "");
  EXPECT_EQ(stops.push("x\n"), "<ex");
  EXPECT_EQ(stops.push("y"), "\ny");
  EXPECT_EQ(stops.push("<en"), "");
  EXPECT_EQ(stops.finish(), "<en");
}

}  // namespace
}  // namespace moiety::server
