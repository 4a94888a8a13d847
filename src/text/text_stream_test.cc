#include "text/text_stream.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "text/test_support.h"

namespace moiety::text {
namespace {

TEST(TextStream, HoldsBackHalfACharacter) {
  const Tokenizer tokenizer(small_tokenizer(257));  // bytes only
  TextStream stream(tokenizer);
  const std::vector<int32_t> ids = tokenizer.encode("é🙂", false);
  ASSERT_EQ(ids.size(), 6u);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "é");
  for (size_t i = 2; i < 5; ++i) EXPECT_EQ(stream.push(ids[i]), "");
  EXPECT_EQ(stream.push(ids[5]), "🙂");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, ACutCharacterIsReplacedAtTheEndOnly) {
  const Tokenizer tokenizer(small_tokenizer(257));
  TextStream stream(tokenizer);
  const std::vector<int32_t> ids = tokenizer.encode("🙂", false);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.finish(), "�");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, LeavesSpecialTokensOutOnRequest) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_EQ(TextStream(tokenizer).push(0), "<|endoftext|>");
  EXPECT_EQ(TextStream(tokenizer, true).push(0), "");
}

TEST(TextStream, SaysInPiecesWhatDecodeSaysAtOnce) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_TRUE(rc::check([&](uint64_t seed, bool skip_special) {
    Random random(seed);
    std::vector<int32_t> ids;
    // Mostly bytes, so that invalid and cut characters come in every shape; some ids that don't
    // exist.
    for (uint64_t left = random.below(40); left > 0; --left)
      ids.push_back(static_cast<int32_t>(random.below(random.below(4) == 0 ? 420 : 257)));
    TextStream stream(tokenizer, skip_special);
    std::string text;
    for (const int32_t id : ids) {
      const std::string part = stream.push(id);
      RC_ASSERT(is_valid_utf8(part));
      text += part;
    }
    RC_ASSERT(text + stream.finish() == tokenizer.decode(ids, skip_special));
  }));
}

}  // namespace
}  // namespace moiety::text
