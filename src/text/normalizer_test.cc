#include "text/normalizer.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace moiety::text {
namespace {

using Kind = spec::Normalizer::Kind;

std::string run(const std::vector<spec::Normalizer>& steps, std::string_view text,
                const std::vector<spec::AddedToken>& kept = {}) {
  Normalizer::Scratch scratch;
  return std::string(Normalizer(steps, kept).run(text, scratch));
}

// "a" to "xy" and "ab" to "z", as sentencepiece compiles it: a double array of 256 units and more.
std::string small_charsmap() {
  std::vector<uint32_t> units(1024);
  const auto link = [&](uint32_t at, uint32_t offset, char label, bool value) {
    units[at] = (at ^ offset) << 10 | (value ? 1u << 8 : 0u) | static_cast<uint8_t>(label);
  };
  units[0] = 256u << 10;  // children at 256 ^ byte
  const uint32_t a = 256 ^ 'a';
  link(a, 512, 'a', true);
  units[512] = 0x80000000u | 0;  // the text at 0
  const uint32_t ab = 512 ^ 'b';
  link(ab, 768, 'b', true);
  units[768] = 0x80000000u | 3;
  const uint32_t bytes = static_cast<uint32_t>(units.size() * 4);
  std::string map(reinterpret_cast<const char*>(&bytes), 4);
  map.append(reinterpret_cast<const char*>(units.data()), bytes);
  return map + std::string("xy\0z\0", 5);
}

TEST(Normalizer, EachStepDoesWhatItsNameSays) {
  EXPECT_EQ(run({{.kind = Kind::Lowercase}}, "AÉİß"), "aéi\u0307ß");
  EXPECT_EQ(run({{.kind = Kind::Strip, .right = false}}, " \u3000a "), "a ");
  EXPECT_EQ(run({{.kind = Kind::StripAccents}}, "e\u0301\u20dd"), "e");
  EXPECT_EQ(run({{.kind = Kind::Prepend, .content = "▁"}}, "a"), "▁a");
  EXPECT_EQ(run({{.kind = Kind::Prepend, .content = "▁"}}, ""), "");
  EXPECT_EQ(run({{.kind = Kind::Replace, .pattern = " ", .content = "▁"}}, "a  b"), "a▁▁b");
  EXPECT_EQ(run({{.kind = Kind::Replace, .pattern = " {2,}", .is_regex = true, .content = " "}},
                "a   b c"),
            "a b c");
  EXPECT_EQ(run({{.kind = Kind::Nmt}}, "a\x01\tb\u200b"), "a b ");
  EXPECT_EQ(run({{.kind = Kind::ByteLevel}}, " é"), "ĠÃ©");
}

TEST(Normalizer, StepsFollowEachOther) {
  EXPECT_EQ(run({{.form = spec::NormalForm::Nfkc}, {.kind = Kind::Lowercase}}, "Ａ①"), "a1");
}

TEST(Normalizer, SentencepieceTrimsCollapsesAndEscapes) {
  spec::Normalizer step{.kind = Kind::SentencePiece};
  EXPECT_EQ(run({step}, "  a   b "), "▁a▁b");
  EXPECT_EQ(run({step}, "   "), "");
  step.remove_extra_whitespaces = false;
  EXPECT_EQ(run({step}, " a "), "▁▁a▁");
  step.add_dummy_prefix = false;
  EXPECT_EQ(run({step}, "a b"), "a▁b");
  EXPECT_EQ(run({step}, "a b c", {{.content = "a b"}}), "a▁b▁c");
}

TEST(Normalizer, SentencepieceTakesTheLongestKeyHuggingFaceTheShortest) {
  const spec::Normalizer longest{.kind = Kind::SentencePiece,
                                 .charsmap = small_charsmap(),
                                 .add_dummy_prefix = false};
  EXPECT_EQ(run({longest}, "abaab"), "zxyz");
  EXPECT_EQ(run({{.kind = Kind::Charsmap, .charsmap = small_charsmap()}}, "ab"), "xyb");
}

TEST(Normalizer, ATableThatLiesIsRefusedOrMapsNothing) {
  EXPECT_THROW(run({{.kind = Kind::Charsmap, .charsmap = "ab"}}, "a"), Error);
  EXPECT_THROW(run({{.kind = Kind::Charsmap, .charsmap = std::string("\xff\0\0\0abc", 7)}}, "a"),
               Error);
  // An array that leads out of itself, and a value behind the texts.
  std::string map("\x04\0\0\0\xff\xff\xff\x7f", 8);
  EXPECT_EQ(run({{.kind = Kind::Charsmap, .charsmap = map}}, "a"), "a");
}

}  // namespace
}  // namespace moiety::text
