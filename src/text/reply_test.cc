#include "text/reply.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "base/json.h"

namespace moiety::text {
namespace {

using Kind = ReplyPart::Kind;

// Parts that follow each other as one; calls as text.
std::string shown(const std::vector<ReplyPart>& parts) {
  std::string out;
  std::optional<Kind> last;
  for (const ReplyPart& part : parts) {
    if (part.kind != last || part.kind == Kind::ToolCalls) out += fmt::format("\n{}:", "RCMT"[static_cast<int>(part.kind)]);
    last = part.kind;
    out += part.text;
    for (const ToolCall& call : part.calls) out += fmt::format(" => {}({})", call.name, call.arguments);
  }
  return out;
}

std::vector<ReplyPart> parse(const ReplyFormat& format, std::string_view text, Random* random = nullptr) {
  ReplyParser parser(format);
  std::vector<ReplyPart> all;
  const auto add = [&](std::vector<ReplyPart> parts) {
    for (auto& part : parts) all.push_back(std::move(part));
  };
  while (!text.empty()) {
    const size_t bytes = random == nullptr ? text.size() : std::min<size_t>(text.size(), 1 + random->below(9));
    add(parser.push(text.substr(0, bytes)));
    text.remove_prefix(bytes);
  }
  add(parser.finish());
  return all;
}

Reply reply(const char* source, std::string_view text, std::string_view prompt = "") {
  Reply all;
  for (const ReplyPart& part : parse(reply_format(source, prompt), text)) all.add(part);
  all.trim();
  return all;
}

struct Family {
  const char* name;
  const char* source;  // of the template, as far as it matters
  const char* prompt;
  const char* text;
  const char* reasoning;
  const char* content;
  std::vector<std::pair<const char*, const char*>> calls;
};

const Family kFamilies[] = {
    {"qwen3", "<tool_call>", "", "<think>\nhm\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": \"x\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
     "hm", "Let me see.", {{"f", R"({"z": 1, "a": "x"})"}, {"g", "{}"}}},
    {"deepseek_r1", "", "<｜Assistant｜><think>\n", "So.\n</think>\nYes <think> it is.", "So.", "Yes <think> it is.", {}},
    {"qwen3_coder", "<tool_call>\n<function=", "", "Ok\n<tool_call>\n<function=run>\n<parameter=cmd>\nls\n-l\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
     "", "Ok", {{"run", R"({"cmd": "ls\n-l", "n": 3})"}}},
    {"glm", "<tool_call>", "", "<tool_call>get\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>", "", "",
     {{"get", R"({"city": "Paris"})"}}},
    {"mistral", "[TOOL_CALLS]", "", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": [1]}, \"id\": \"123456789\"}]", "", "",
     {{"f", R"({"a": [1]})"}}},
    {"mistral_later", "[TOOL_CALLS]", "", "[TOOL_CALLS]f[ARGS]{\"a\": 1}", "", "", {{"f", R"({"a": 1})"}}},
    {"llama3_1", "<|python_tag|>", "", "{\"name\": \"f\", \"parameters\": {\"q\": \"x\"}}", "", "", {{"f", R"({"q": "x"})"}}},
    {"llama3_1_builtin", "<|python_tag|>", "", "<|python_tag|>brave_search.call(query=\"a b\")", "", "",
     {{"brave_search", R"({"query": "a b"})"}}},
    {"deepseek_v3", "<｜tool▁calls▁begin｜>", "", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "", "", {{"f", R"({"a": 1})"}, {"g", "{}"}}},
    {"deepseek_v3_1", "<｜tool▁calls▁begin｜>", "", "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "", "Hm.", {{"f", R"({"a": 1})"}}},
    {"granite", "<|tool_call|> <response>", "", "<think>t</think><response>r</response>", "t", "r", {}},
    {"granite_tools", "<|tool_call|>", "", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", "", "", {{"f", R"({"a": 1})"}}},
    {"gpt_oss", "<|channel|> <|message|>", "", "<|channel|>analysis<|message|>Hm, <b>.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
     "Hm, <b>.", "Yes.", {}},
    {"gpt_oss_tools", "<|channel|> <|message|>", "", "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": \"b\"}<|call|>",
     "Look.", "", {{"f", R"({"a": "b"})"}}},
    {"gpt_oss_to_first", "<|channel|> <|message|>", "", " to=functions.f<|channel|>commentary json<|message|>{\"a\": 1}", "", "",
     {{"f", R"({"a": 1})"}}},
    {"no_json", "<tool_call>", "", "a <tool_call>{oops</tool_call> b", "", "a <tool_call>{oops</tool_call> b", {}},
    {"not_closed", "<tool_call>", "", "a <tool_call>{\"name\"", "", "a <tool_call>{\"name\"", {}},
    {"half_a_marker", "<tool_call>", "", "x <tool_ca", "", "x <tool_ca", {}},
    {"plain_json", "<|python_tag|>", "", "{\"result\": 3}", "", "{\"result\": 3}", {}},
    {"no_channel", "<|channel|> <|message|>", "", "Hello.", "", "Hello.", {}},
};

TEST(Reply, IsTakenApartAsTheFamilyMarksIt) {
  for (const Family& family : kFamilies) {
    const Reply found = reply(family.source, family.text, family.prompt);
    EXPECT_EQ(found.reasoning, family.reasoning) << family.name;
    EXPECT_EQ(found.content, family.content) << family.name;
    ASSERT_EQ(found.tool_calls.size(), family.calls.size()) << family.name;
    for (size_t i = 0; i < family.calls.size(); ++i) {
      EXPECT_EQ(found.tool_calls[i].name, family.calls[i].first) << family.name;
      EXPECT_EQ(found.tool_calls[i].arguments, family.calls[i].second) << family.name;
    }
  }
}

// Pieces of all families' marks in random order.
std::string random_reply(Random& random) {
  static constexpr std::string_view kPieces[] = {
      "<think>", "</think>", "<tool_call>", "</tool_call>", "{\"name\": \"f\"}", "[TOOL_CALLS]", "<|python_tag|>", "\n", " ", "a",
      "<|channel|>", "<|message|>", "<|start|>assistant", "analysis", "final", " to=functions.f", "<|end|>", "<|call|>", "<", "<|",
      "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>", "{", "}", "é",
      "<function=f>", "</function>", "<response>", "<|tool_call|>", "<thi", "commentary", "x<arg_key>"};
  std::string text;
  for (uint64_t pieces = random.below(14); pieces > 0; --pieces) text += kPieces[random.below(std::size(kPieces))];
  return text;
}

TEST(Reply, IsTheSameHoweverItIsCutAndLosesNothing) {
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    Random random(seed);
    const Family& family = kFamilies[random.below(std::size(kFamilies))];
    const std::string text = random.below(3) == 0 ? std::string(family.text) : random_reply(random);
    const ReplyFormat format = reply_format(family.source, family.prompt);
    const auto whole = parse(format, text), cut = parse(format, text, &random);
    ASSERT_EQ(shown(whole), shown(cut)) << family.name << " seed " << seed << ": " << text;
    std::string joined;
    for (const ReplyPart& part : cut) joined += part.text;
    ASSERT_EQ(joined, text) << family.name << " seed " << seed;
  }
}

// What is told of calls as they are written, and in the end.
struct Told {
  std::vector<std::string> pieces;  // the calls' names and arguments as they grew
  std::string parts;
  size_t longest_piece = 0;  // of arguments
};

Told told(ReplyFormat format, std::string_view text, Random& random, uint64_t most) {
  format.calls_in_pieces = true;
  ReplyParser parser(format);
  Told told;
  std::vector<ToolCall> open;  // as told so far, of this block
  std::vector<ReplyPart> all;
  const auto tell = [&](const std::vector<ToolCall>& calls) {
    for (size_t i = 0; i < calls.size(); ++i) {
      if (i == open.size()) {
        open.push_back({calls[i].name, ""});
        told.pieces.push_back(calls[i].name + ":");
      }
      EXPECT_EQ(calls[i].name, open[i].name);
      EXPECT_TRUE(calls[i].arguments.starts_with(open[i].arguments)) << calls[i].arguments << " after " << open[i].arguments;
      const size_t at = told.pieces.size() - open.size() + i, grown = calls[i].arguments.size() - open[i].arguments.size();
      told.longest_piece = std::max(told.longest_piece, grown);
      told.pieces[at] += calls[i].arguments.substr(open[i].arguments.size());
      open[i].arguments = calls[i].arguments;
    }
  };
  const auto add = [&](std::vector<ReplyPart> parts) {
    for (ReplyPart& part : parts) {
      if (part.kind == Kind::ToolCalls) {
        EXPECT_GE(part.calls.size(), open.size());
        tell(part.calls);
        open.clear();
      }
      all.push_back(std::move(part));
    }
    tell(parser.open_calls());
  };
  while (!text.empty()) {
    const size_t bytes = std::min<size_t>(text.size(), 1 + random.below(most));
    add(parser.push(text.substr(0, bytes)));
    text.remove_prefix(bytes);
  }
  add(parser.finish());
  told.parts = shown(all);
  return told;
}

TEST(Reply, CallsInPiecesAddUpToWhatTheyAreInTheEnd) {
  Random random(1);
  for (const Family& family : kFamilies) {
    std::vector<std::string> whole;
    for (const auto& [name, arguments] : family.calls) whole.push_back(std::string(name) + ":" + arguments);
    const Told found = told(reply_format(family.source, family.prompt), family.text, random, 1);
    EXPECT_EQ(found.pieces, whole) << family.name;
    EXPECT_EQ(found.parts, shown(parse(reply_format(family.source, family.prompt), family.text))) << family.name;
    const bool is_json = std::string_view(family.text).find("<function=") == std::string_view::npos &&
                         std::string_view(family.text).find("<arg_key>") == std::string_view::npos && std::string_view(family.name) != "llama3_1_builtin";
    if (is_json) {
      EXPECT_LE(found.longest_piece, 2u) << family.name;
    }
  }
}

TEST(Reply, CallsInPiecesAreTheSameHoweverTheyAreCut) {
  static constexpr std::string_view kPieces[] = {
      "<tool_call>", "</tool_call>", "{\"name\": \"f\", \"arguments\": {", "\"a\": 1", "}", "}", "]", ", ", "\"parameters\": {}", "{", "[TOOL_CALLS]", "[", "f[ARGS]",
      "\"x</tool\"", "\"\\\"}\"", ": ", "\"b\"", "<|channel|>commentary to=functions.f<|message|>", "<|call|>", "<|python_tag|>", "\n", "a", "</tool", "```json", "```",
      "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "\"name\": \"g\"", "\"function\": {"};
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    Random random(seed);
    const Family& family = kFamilies[random.below(std::size(kFamilies))];
    std::string text;
    for (uint64_t pieces = random.below(14); pieces > 0; --pieces) text += kPieces[random.below(std::size(kPieces))];
    const ReplyFormat format = reply_format(family.source, family.prompt);
    const Told whole = told(format, text, random, 1000), cut = told(format, text, random, 5);
    ASSERT_EQ(whole.parts, cut.parts) << family.name << " seed " << seed << ": " << text;
    ASSERT_EQ(whole.pieces, cut.pieces) << family.name << " seed " << seed << ": " << text;
  }
}

TEST(Reply, ArgumentsAreAsTheModelWroteThemUnlessThatIsNoJsonForAll) {
  const auto arguments = [](const std::string& text) { return parse_tool_calls("{\"name\": \"f\", \"arguments\": " + text + "}").at(0).arguments; };
  EXPECT_EQ(arguments("{\"b\":1,  \"a\" : [1e2]}"), "{\"b\":1,  \"a\" : [1e2]}");
  EXPECT_EQ(arguments("{\"a\": 1, \"a\": 2}"), "{\"a\": 2}");
  EXPECT_EQ(arguments("\"{\\\"a\\\":1}\""), "{\"a\": 1}");
}

TEST(Reply, ShowsNoPartOfAMarker) {
  ReplyParser parser(reply_format("<tool_call>", ""));
  std::string content;
  for (const char c : std::string_view("ok <tool_call>{\"name\": \"f\"}</tool_call>")) {
    for (const ReplyPart& part : parser.push({&c, 1})) content += part.kind == Kind::Content ? part.text : "";
    EXPECT_EQ(content.find('<'), content.npos);
  }
}

}  // namespace
}  // namespace moiety::text
