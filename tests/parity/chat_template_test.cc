// Our chat templates against jinja2 through transformers' own template utilities: every conversation of the fixtures.
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "jinja/print.h"
#include "jinja/run.h"
#include "jinja/template.h"
#include "support/fixtures.h"

namespace moiety::jinja {
namespace {

// The context of a line, cut out of its text so that the order of keys stays.
Context context_of(const std::string& line) {
  const Context all = Context::parse(line, "fixture");
  const Value* context = all.values().find("context");
  Run run({}, {});
  std::string json;
  append_json(json, *context, {}, run.budget);
  return Context::parse(json, "context");
}

class ChatTemplates : public testing::TestWithParam<const char*> {};

TEST_P(ChatTemplates, RenderAsTransformersDoes) {
  const auto path = test::fixture(fs::path("chat_templates") / (std::string(GetParam()) + ".jsonl"));
  const auto source = test::fixture(fs::path("chat_templates/templates") / (std::string(GetParam()) + ".jinja"));
  ASSERT_TRUE(path && source);
  const Template chat(read_file(*source), GetParam());
  std::ifstream in(*path);
  std::string line;
  size_t lines = 0;
  for (; std::getline(in, line); ++lines) {
    const Json answer = parse_json(line, path->string());
    const DateTime now = parse_date_time(answer["now"].get<std::string>());
    if (answer.contains("rendered")) {
      EXPECT_EQ(chat.render(context_of(line), now), answer["rendered"].get<std::string>()) << line;
    } else {
      try {
        chat.render(context_of(line), now);
        ADD_FAILURE() << "rendered what must be refused: " << line;
      } catch (const TemplateError& error) {
        EXPECT_EQ(error.fault(), FaultKind::Refused) << error.what() << '\n' << line;
      }
    }
  }
  EXPECT_GE(lines, 2u);
}

INSTANTIATE_TEST_SUITE_P(Published, ChatTemplates,
                         testing::Values("deepseek_v3_1", "deepseek_v3_r1", "gemma3", "gpt_oss", "granite_3_3", "llama3",
                                         "llama3_1", "llama3_1_lenml", "mistral_nemo", "phi_3_5", "qwen3", "qwen3_coder"),
                         [](const auto& row) { return std::string(row.param); });

}  // namespace
}  // namespace moiety::jinja
