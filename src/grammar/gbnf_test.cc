#include "grammar/gbnf.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "grammar/test_support.h"

namespace moiety::grammar {
namespace {

std::string refusal(const std::string& source) {
  try {
    compile(parse_gbnf(source));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void expect_texts(const std::string& source, const std::vector<std::string>& in, const std::vector<std::string>& out) {
  Matcher matcher = matcher_of(parse_gbnf(source));
  for (const std::string& text : in) {
    size_t fits = 0;
    while (fits < text.size() && accepts(matcher, text.substr(0, fits + 1), false)) ++fits;
    EXPECT_TRUE(accepts(matcher, text)) << source << "\n" << text << "\nnot behind " << text.substr(0, fits);
  }
  for (const std::string& text : out) EXPECT_FALSE(accepts(matcher, text)) << source << "\n" << text;
}

TEST(Gbnf, ListOfLines) {
  expect_texts("# a list\nroot ::= (\"- \" item)+\nitem ::= [^\\n]+ \"\\n\"", {"- a\n", "- a\n- b c é\n"}, {"", "- a", "- \n", "a\n", "- a\nb\n"});
}

TEST(Gbnf, Chess) {
  expect_texts(R"(root ::= (
    # comments may stand anywhere
    "1. " move " " move "\n"

    ([1-9] [0-9]? ". " move " " move "\n")+
)
move ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?)",
               {"1. e4 e5\n2. Nf3 Nc6\n", "1. e4 e5\n2. O-O O-O-O+\n13. exd8=Q Kxd8#\n"}, {"1. e4 e5\n", "2. e4 e5\n", "1. i4 e5\n2. a1 a1\n"});
}

TEST(Gbnf, Arithmetic) {
  expect_texts(R"g(root ::= (expr "=" ws term "\n")+
expr ::= term ([-+*/] term)*
term ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num ::= [0-9]+ ws
ws ::= [ \t\n]*)g",
               {"1+2=3\n", "(a1 *(b -3)) /4 = c\n\n1=1\n"}, {"1+=3\n", "(1=2\n", "1=2", "A=1\n"});
}

TEST(Gbnf, RepetitionsCount) {
  expect_texts(R"(root ::= "a"{2} "b"{1,} "c"{0,2} "d"{1,3}? [é-ü]{,2})", {"aab", "aabbccdddéü", "aabd"},
               {"ab", "aaab", "aa", "aabccc", "aabdddd", "aabééé"});
  Matcher many = matcher_of(parse_gbnf("root ::= \"ab\"{3,1000000}"));
  std::string text;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(accepts(many, text), i >= 3);
    text += "ab";
  }
}

TEST(Gbnf, CharactersAreUnicode) {
  expect_texts("root ::= .", {"a", "é", "中", "🙂", "\n"}, {"", "ab", "\xe4\xb8", "\xff"});
  expect_texts(R"(root ::= [^a-z"\]\\] "\x41\u00e9\U0001F642")", {"AAé🙂", "🙂Aé🙂", "-Aé🙂"}, {"aAé🙂", "\"Aé🙂", "]Aé🙂", "\\Aé🙂"});
  expect_texts("root ::= [a-] | \"-\"", {"a", "-"}, {"b"});
}

TEST(Gbnf, LinesEndRulesButNotInGroups) {
  expect_texts("root ::= a |\n  b\na ::= \"x\" # one\nb ::= (\n\"y\"\n|\n\"z\")\n", {"x", "y", "z"}, {"xy"});
  expect_texts("root ::=\n \"\"", {""}, {"x"});
  EXPECT_NE(refusal("root ::= \"a\"\n| \"b\""), "");
}

TEST(Gbnf, RightRecursionNeedsNoStack) {
  Matcher matcher = matcher_of(parse_gbnf("root ::= \"a\" root | \"b\""));
  EXPECT_TRUE(accepts(matcher, std::string(5000, 'a') + "b"));
}

// Beyond what may be open at a time nothing is begun, and what was begun can be ended.
TEST(Gbnf, NestingIsBounded) {
  Matcher matcher = matcher_of(parse_gbnf("root ::= \"(\" root \")\" | \"x\""));
  EXPECT_TRUE(accepts(matcher, std::string(200, '(') + "x" + std::string(200, ')')));
  size_t deepest = 0;
  while (accepts(matcher, std::string(deepest + 1, '('), false)) ++deepest;
  EXPECT_EQ(deepest, kMostOpenCalls);
  EXPECT_TRUE(accepts(matcher, std::string(deepest, '(') + "x" + std::string(deepest, ')')));
}

TEST(Gbnf, SpecialTokensStandApart) {
  Matcher matcher = matcher_of(parse_gbnf("root ::= <think> [^<]* </think> .*"));
  EXPECT_TRUE(accepts(matcher, "\xff<think>hm\xff</think>so"));
  EXPECT_FALSE(accepts(matcher, "<think>hm</think>so"));
  EXPECT_FALSE(accepts(matcher, "\xff<think>hm\xff</think>\xff<think>"));
}

TEST(Gbnf, RefusalsSayWhere) {
  EXPECT_EQ(refusal("root ::= \"a\"\nb ::= [a"), "grammar: line 2: a character class is not closed");
  EXPECT_EQ(refusal("root ::= a"), "grammar: the rule \"a\" is used and not defined");
  EXPECT_EQ(refusal("a ::= \"x\""), "grammar: there is no rule \"root\"");
  EXPECT_EQ(refusal("root ::= \"a\"\nroot ::= \"b\""), "grammar: line 2: the rule \"root\" is defined twice");
  EXPECT_EQ(refusal("root ::= root \"a\" | \"b\""), "grammar: the rule \"root\" begins with itself (left recursion)");
  EXPECT_EQ(refusal("root ::= a? b\nb ::= \"\" c\nc ::= a* b \"x\"\na ::= \"a\""), "grammar: the rule \"b\" begins with itself (left recursion)");
  EXPECT_EQ(refusal("root ::= \"a\" root"), "grammar: no text of the rule \"root\" ever ends");
  EXPECT_NE(refusal("root ::= \"a\"{3,2}"), "");
  EXPECT_NE(refusal("root ::= \"a\"{99999999999}"), "");
  EXPECT_NE(refusal("root ::= \"\\q\""), "");
  EXPECT_NE(refusal("root ::= \"\\ud800\""), "");
  EXPECT_NE(refusal("root ::= \"a"), "");
  EXPECT_NE(refusal("root ::= (\"a\""), "");
  EXPECT_NE(refusal("root ::= \"a\")"), "");
  EXPECT_NE(refusal("root ::= [z-a]"), "");
  EXPECT_NE(refusal("root ::= * \"a\""), "");
  EXPECT_NE(refusal("root ::= !<think>"), "");
  EXPECT_NE(refusal("root ::= <[12]>"), "");
  EXPECT_NE(refusal(std::string(1000, '(')), "");
  EXPECT_NE(refusal("root ::= " + std::string(1000, '(') + "\"a\"" + std::string(1000, ')')), "");
  EXPECT_NE(refusal("root ::= \"a\"" + std::string(1000, '*')), "");
}

// Alternatives that no longer end are never begun; the others may be taken.
TEST(Gbnf, AlternativesWithoutEndAreLeftOut) {
  expect_texts("root ::= endless | \"b\"\nendless ::= \"a\" endless", {"b"}, {"a", ""});
  Matcher matcher = matcher_of(parse_gbnf("root ::= endless | \"b\"\nendless ::= \"a\" endless"));
  EXPECT_FALSE(accepts(matcher, "a", false));
}

// What could take for ever: all of it is refused or bounded, by counts of work and not by a clock.
TEST(Gbnf, HostileGrammarsEnd) {
  std::string doubling = "root ::= a30\na0 ::= \"\" | \"x\"\n";
  for (int i = 1; i <= 30; ++i) doubling += "a" + std::to_string(i) + " ::= a" + std::to_string(i - 1) + " a" + std::to_string(i - 1) + "\n";
  const std::vector<std::string> sources = {
      doubling,
      "root ::= ((\"a\"?){0,200}){0,200}",
      "root ::= (\"a\" | \"aa\" | \"aaa\"){1,1000000} \"b\"",
      "root ::= s \"b\"\ns ::= \"a\" s s | \"a\" s \"c\" s | \"a\"",
      "root ::= (((((\"a\"*)*)*)*)*)*",
      "root ::= ((((\"a\"{0,1000}){1,1000}){1,1000}){1,1000})",
      "root ::= (\"a\"*){0,1000000000}",
  };
  for (const std::string& source : sources) {
    try {
      Matcher matcher = matcher_of(parse_gbnf(source));
      matcher.allow_work(3'000'000);
      accepts(matcher, std::string(300, 'a'));
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find("grammar: "), 0u);
    }
  }
  EXPECT_NE(refusal("root ::= (\"a\"*){0,1000000}"), "");
}

// The states of before, whatever else was forgotten.
TEST(Matcher, ForgetsAllButWhatIsNeeded) {
  Matcher matcher = matcher_of(parse_gbnf("root ::= \"(\" root \")\" root | \"x\"{2,5}"));
  Matcher::State kept = matcher.start();
  for (const char c : std::string_view("((xxx)")) kept = matcher.step(kept, static_cast<uint8_t>(c));
  matcher.forget_all_but({&kept});
  for (const char c : std::string_view("xx)")) {
    EXPECT_FALSE(matcher.may_end(kept));
    kept = matcher.step(kept, static_cast<uint8_t>(c));
  }
  for (const char c : std::string_view("xx")) kept = matcher.step(kept, static_cast<uint8_t>(c));
  EXPECT_TRUE(matcher.may_end(kept));
  EXPECT_TRUE(accepts(matcher, "xxx"));
  EXPECT_FALSE(accepts(matcher, "(xx"));
}

}  // namespace
}  // namespace moiety::grammar
