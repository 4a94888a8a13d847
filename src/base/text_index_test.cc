#include "base/text_index.h"

#include <gtest/gtest.h>

#include <string>

namespace moiety {
namespace {

TEST(TextIndex, FindsWhatWasInsertedAndNothingElse) {
  std::vector<std::string> texts;
  for (int i = 0; i < 1000; ++i) texts.push_back("text " + std::to_string(i));
  TextIndex index;  // grows on the way
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(index.insert(texts[i], i).second);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(*index.find("text " + std::to_string(i)), i);
  EXPECT_EQ(index.find("text 1000"), nullptr);
  EXPECT_EQ(index.find(""), nullptr);
  EXPECT_EQ(index.size(), 1000u);
}

TEST(TextIndex, ATextThatIsThereKeepsItsNumberUnlessOneWritesIt) {
  TextIndex index(4);
  index.insert("a", 1);
  const auto [value, is_new] = index.insert("a", 2);
  EXPECT_FALSE(is_new);
  EXPECT_EQ(*value, 1);
  *value = 3;
  EXPECT_EQ(*index.find("a"), 3);
}

}  // namespace
}  // namespace moiety
