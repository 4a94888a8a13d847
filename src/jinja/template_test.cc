#include "jinja/template.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/fixtures.h"

namespace moiety::jinja {
namespace {

std::string render(std::string_view source, std::string_view context = "{}", const Limits& limits = {}) {
  return Template(source, "t.jinja").render(Context::parse(context, "context"), DateTime{}, limits);
}

// What is said of a template that fails, and its kind.
std::pair<FaultKind, std::string> fault_of(std::string_view source, std::string_view context = "{}") {
  try {
    render(source, context);
  } catch (const TemplateError& error) {
    return {error.fault(), error.what()};
  }
  ADD_FAILURE() << "no error: " << source.substr(0, 200);
  return {};
}

// Each line a template with what jinja2 3.1.6 makes of it under transformers' settings, in the context of the first line.
TEST(Template, RendersTheLanguageAsJinja2Does) {
  std::ifstream in(test::small_fixtures() / "chat_templates/language.jsonl");
  std::string first, line;
  ASSERT_TRUE(std::getline(in, first));
  const Json setting = Json::parse(first);
  const std::string context = nlohmann::ordered_json::parse(first)["context"].dump();
  const DateTime now = parse_date_time(setting["now"].get<std::string>());
  size_t lines = 0;
  for (; std::getline(in, line); ++lines) {
    const Json answer = Json::parse(line);
    const std::string source = answer["template"];
    try {
      const std::string text = Template(source, "t").render(Context::parse(context, "context"), now);
      EXPECT_EQ(Json(text), answer.value("text", Json())) << source;
    } catch (const TemplateError& error) {
      EXPECT_TRUE(answer.contains("error")) << source << '\n' << error.what();
    }
  }
  EXPECT_GT(lines, 80u);
}

TEST(Template, SaysTheLineAndTheKindOfWhatIsWrong) {
  EXPECT_EQ(fault_of("a\n{% if x %}\nb"),
            std::pair(FaultKind::Syntax, std::string("t.jinja, line 3: the template has a syntax error: 'endif' is missing: "
                                                     "the block of line 2 is not closed")));
  EXPECT_EQ(fault_of("a\n\n{{ raise_exception('no\nsystem') }}"),
            std::pair(FaultKind::Refused, std::string("t.jinja, line 3: the template refuses: no system")));
  EXPECT_EQ(fault_of("{{ messages[0].content\n + 1 }}", R"({"messages": [{"content": "x"}]})"),
            std::pair(FaultKind::Operation,
                      std::string("t.jinja, line 2: the template fails: unsupported operand types for +: 'str' and 'int'")));
  EXPECT_EQ(fault_of("{{ message.role }}"),
            std::pair(FaultKind::Operation, std::string("t.jinja, line 1: the template fails: 'message' is undefined")));
}

TEST(Template, KeepsTheOrderOfAnObject) {
  EXPECT_EQ(render("{{ d | tojson }}", R"({"d": {"z": 1, "a": {"y": 2, "b": []}}})"), R"({"z": 1, "a": {"y": 2, "b": []}})");
}

TEST(Template, ChangesOnlyItsOwnValues) {
  const Template appends("{{ l.append(4) }}{{ l|length }}", "t");
  const Context context = Context::parse(R"({"l": [1]})", "context");
  EXPECT_EQ(appends.render(context, {}), "None2");
  EXPECT_EQ(appends.render(context, {}), "None2");
}

TEST(Template, IsStoppedWhenItAsksForTooMuch) {
  const std::string deep(100000, '(');
  for (const std::string source : {
           "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
           "{% for i in range(1000000000) %}{% endfor %}",
           "{{ 'x' * 10**12 }}",
           "{{ [0] * 10**12 }}",
           "{{ 'x'.ljust(10**15) }}",
           "{{ '%1000000000d' % 3 }}",
           "{{ '{:>1000000000}'.format(1) }}",
           "{{ [[1]] | tojson(indent=10**10) }}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
           "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
           "{% set n = namespace(s='ab') %}{% for i in range(100) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
           "{% set n = namespace(s=[1]) %}{% for i in range(100) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
           "{% set n = namespace(s=[1]) %}{% for i in range(1000) %}{% set n.s = [n.s] %}{% endfor %}{{ n.s }}",
           "{% set a = [] %}{{ a.append(a) }}{{ a }}",
           "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% if s.isalpha() %}{% endif %}{% endfor %}",
           "{% set s = 'é' * 1000000 %}{% for i in range(99999) %}{% if s[i] %}{% endif %}{% endfor %}",
       }) {
    EXPECT_EQ(fault_of(source).first, FaultKind::Budget) << source;
  }
  EXPECT_EQ(fault_of("{{ " + deep + " }}").first, FaultKind::Syntax);
}

std::string repeated(std::string_view part, size_t count) {
  std::string text;
  while (count-- > 0) text += part;
  return text;
}

// None of these may overflow the stack or take more than a moment.
TEST(Template, OutlivesNestingAndRepetition) {
  for (const std::string source :
       {"{{ " + repeated("[", 100000), "{{ " + repeated("-", 100000) + "1 }}", "{{ 1" + repeated("+1", 100000) + " }}",
        "{{ a" + repeated(".b", 100000) + " }}", "{{ a" + repeated("|e", 100000) + " }}", repeated("{% if 1 %}", 100000),
        repeated("{#", 500000), repeated("{%", 500000), "{% raw %}" + repeated("{% ", 300000),
        "{% raw %}" + repeated("{%" + std::string(1000, ' '), 1000), "{% set " + repeated("(", 100000)}) {
    EXPECT_NO_FATAL_FAILURE(fault_of(source));
  }
  EXPECT_EQ(render("{{ 1" + repeated("~1", 1000) + " }}").size(), 1001u);
  EXPECT_EQ(render("{{ " + repeated("not ", 1000) + "1 }}"), "True");
}

TEST(DateTime, IsReadAndPrinted) {
  EXPECT_EQ(format_date_time(parse_date_time("2024-02-29T07:08:09.5"), "%d %b %Y, %H:%M:%S.%f (%A, day %j)"),
            "29 Feb 2024, 07:08:09.500000 (Thursday, day 060)");
  for (const char* bad : {"", "2025", "2025-02-29", "2025-01-15T25:00", "2025-01-15T12:00:00Z", "yesterday"}) {
    EXPECT_THROW(parse_date_time(bad), Error) << bad;
  }
}

}  // namespace
}  // namespace moiety::jinja
