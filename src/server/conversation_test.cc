#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

constexpr const char* kPath = "/v1/chat/completions";

// Clients send calls back with content null; there are templates that look for a mark in it all the same.
TEST(Conversation, ACallWithoutContentSuitsTemplatesThatWantText) {
  Fixture fixture;
  const text::ChatTemplate wants_text({{"default", "{% for m in messages %}{{ '[marked]' if '</think>' in m.content else m.content }}"
                                                   "{% for c in m.tool_calls or [] %}{{ c.function.arguments.n }}{% endfor %};{% endfor %}"}},
                                      {}, "template");
  fixture.service.chat_template = &wants_text;
  const OrderedJson messages = parse_ordered_json(R"([{"role": "user", "content": "hi"}, {"role": "assistant", "content": null, "tool_calls": [
    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"n\": 7}"}}]}])", "messages");
  EXPECT_EQ(post(fixture, "/apply-template", {{"messages", messages}}).json().at("prompt"), "hi;7;");
}

TEST(Conversation, TokensAreCountedAsTheAnswerCountsThem) {
  Fixture fixture;
  const OrderedJson body = {{"messages", {{{"role", "user"}, {"content", "how long"}}}}, {"max_tokens", 1}};
  const OrderedJson counted = post(fixture, "/v1/chat/completions/input_tokens", body).json();
  EXPECT_EQ(counted.at("input_tokens"), post(fixture, kPath, body).json().at("usage").at("prompt_tokens"));
  EXPECT_EQ(counted.at("object"), "response.input_tokens");
  EXPECT_EQ(post(fixture, "/v1/responses/input_tokens", {{"input", "how long"}}).json(), counted);
}

// What who runs the server has chosen, unless the request says otherwise.
TEST(Conversation, TheServersOwnSettingsFillIn) {
  Fixture fixture;
  fixture.service.template_settings = {{"enable_thinking", true}};
  fixture.service.seed = 7;
  OrderedJson body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  EXPECT_TRUE(post(fixture, "/apply-template", body).json().at("prompt").get<std::string>().ends_with("<think>\n"));
  body["chat_template_kwargs"] = {{"enable_thinking", false}};
  EXPECT_TRUE(post(fixture, "/apply-template", body).json().at("prompt").get<std::string>().ends_with("assistant\n"));

  body.update({{"max_tokens", 20}, {"temperature", 2}, {"ignore_eos", true}});
  const auto answer = [&] { return post(fixture, kPath, body).json().at("choices").at(0).at("message"); };
  const OrderedJson first = answer();
  EXPECT_EQ(answer(), first);
  body["seed"] = 7;
  EXPECT_EQ(answer(), first);
  body["seed"] = 8;
  EXPECT_NE(answer(), first);
}

}  // namespace
}  // namespace moiety::server
