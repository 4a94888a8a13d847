#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

constexpr const char* kPath = "/completion";

OrderedJson ask(const OrderedJson& prompt, const std::string& script, OrderedJson more = OrderedJson::object()) {
  OrderedJson body = {{"prompt", prompt}, {"grammar", script}, {"seed", 3}};
  body.update(more);
  return body;
}

TEST(LlamaCompletion, HasTheFieldsThatItsClientsRead) {
  Fixture fixture;
  const OrderedJson json = post(fixture, kPath, ask("the sky", " is\nblue")).json();
  EXPECT_EQ(json.at("content"), " is\nblue");
  EXPECT_EQ(json.at("tokens"), OrderedJson::array());
  EXPECT_EQ(json.at("stop"), true);
  EXPECT_EQ(json.at("stop_type"), "eos");
  EXPECT_EQ(json.at("stopping_word"), "");
  EXPECT_EQ(json.at("prompt"), "the sky");
  EXPECT_EQ(json.at("has_new_line"), true);
  EXPECT_EQ(json.at("truncated"), false);
  EXPECT_EQ(json.at("generation_settings").at("seed"), 3);
  EXPECT_EQ(json.at("tokens_evaluated"), fixture.tokenizer.encode("the sky", true).size());
  EXPECT_EQ(json.at("tokens_predicted"), fixture.tokenizer.encode(" is\nblue", false).size());
  EXPECT_EQ(json.at("timings").at("predicted_n"), json.at("tokens_predicted"));
  EXPECT_FALSE(json.contains("completion_probabilities"));
}

TEST(LlamaCompletion, SaysWhyItStopped) {
  Fixture fixture;
  EXPECT_FLOAT_EQ(post(fixture, kPath, ask("x", "a", {{"repeat_penalty", 1.5}})).json().at("generation_settings").at("repeat_penalty").get<float>(), 1.5f);
  EXPECT_EQ(post(fixture, "/v1/completions", ask("x", "abcdef", {{"n_predict", 2}})).json().at("usage").at("completion_tokens"), 2);
  const OrderedJson limit = post(fixture, kPath, ask("x", "abcdef", {{"n_predict", 2}})).json();
  EXPECT_EQ(limit.at("stop_type"), "limit");
  EXPECT_EQ(limit.at("tokens_predicted"), 2);
  EXPECT_EQ(limit.at("generation_settings").at("n_predict"), 2);
  const OrderedJson word = post(fixture, kPath, ask("x", "one two", {{"stop", {" t"}}})).json();
  EXPECT_EQ(word.at("stop_type"), "word");
  EXPECT_EQ(word.at("stopping_word"), " t");
  EXPECT_EQ(word.at("content"), "one");
}

TEST(LlamaCompletion, IsTruncatedWhereTheContextEndsIt) {
  Fixture fixture(engine::EngineOptions{.context = 8});
  const auto asked_for = [&](int most) {
    return post(fixture, kPath, {{"prompt", {1, 2, 3}}, {"n_predict", most}, {"ignore_eos", true}}).json();
  };
  for (const int most : {-1, 6, 100}) {
    const OrderedJson json = asked_for(most);
    EXPECT_EQ(json.at("truncated"), true) << most;
    EXPECT_EQ(json.at("tokens_predicted"), 5) << most;
    EXPECT_EQ(json.at("stop_type"), "limit") << most;
  }
  for (const int most : {0, 2, 5}) EXPECT_EQ(asked_for(most).at("truncated"), false) << most;
  fixture.service.limits.new_tokens = 4;
  EXPECT_EQ(asked_for(-1).at("truncated"), false);
  fixture.service.limits.new_tokens = 6;
  EXPECT_EQ(asked_for(-1).at("truncated"), true);
}

// The first token comes out of the prompt's time.
TEST(LlamaCompletion, ItsSpeedIsThatOfTheTokensAfterTheFirst) {
  Fixture fixture;
  const auto timings = [&](int most) {
    return post(fixture, kPath, {{"prompt", "x"}, {"n_predict", most}, {"ignore_eos", true}}).json().at("timings");
  };
  const OrderedJson one = timings(1), five = timings(5);
  EXPECT_EQ(one.at("predicted_n"), 1);
  EXPECT_EQ(one.at("predicted_per_second"), 0.0);
  EXPECT_EQ(one.at("predicted_per_token_ms"), 0.0);
  EXPECT_EQ(five.at("predicted_n"), 5);
  const auto took_ms = five.at("predicted_ms").get<double>();
  EXPECT_NEAR(five.at("predicted_per_second").get<double>() * took_ms, 4000, 1e-6);
  EXPECT_NEAR(five.at("predicted_per_token_ms").get<double>(), took_ms / 4, 1e-9);
}

TEST(LlamaCompletion, TokensAndProbabilitiesComeWhenAskedFor) {
  Fixture fixture;
  const std::vector<int32_t> tokens = fixture.tokenizer.encode(" is blue", false);
  const OrderedJson json = post(fixture, kPath, ask("the sky", " is blue", {{"return_tokens", true}, {"n_probs", 4}})).json();
  EXPECT_EQ(json.at("tokens").get<std::vector<int32_t>>(), tokens);
  const OrderedJson& probabilities = json.at("completion_probabilities");
  ASSERT_EQ(probabilities.size(), tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(probabilities[i].at("id"), tokens[i]);
    EXPECT_LE(probabilities[i].at("logprob").get<double>(), 0);
    ASSERT_EQ(probabilities[i].at("top_logprobs").size(), 4u);
    EXPECT_GE(probabilities[i].at("top_logprobs")[0].at("logprob").get<double>(), probabilities[i].at("top_logprobs")[3].at("logprob").get<double>());
  }
}

TEST(LlamaCompletion, AStreamSaysTheSame) {
  Fixture fixture;
  const std::vector<int32_t> tokens = fixture.tokenizer.encode(" größe 中文", false);
  const Recorded exchange = post(fixture, kPath, ask("the", " größe 中文", {{"stream", true}}));
  ASSERT_TRUE(exchange.has_ended);
  std::string text;
  std::vector<int32_t> ids;
  for (size_t i = 0; i < exchange.events.size(); ++i) {
    const OrderedJson event = parse_ordered_json(exchange.events[i].second, "event");
    text += event.at("content").get<std::string>();
    for (const OrderedJson& id : event.at("tokens")) ids.push_back(id.get<int32_t>());
    EXPECT_EQ(event.at("stop"), i + 1 == exchange.events.size());
    EXPECT_EQ(event.contains("timings"), i + 1 == exchange.events.size());
  }
  EXPECT_EQ(text, " größe 中文");
  EXPECT_EQ(ids, tokens);
}

TEST(LlamaCompletion, SeveralPromptsGiveAList) {
  Fixture fixture;
  const OrderedJson list = post(fixture, kPath, ask({"one", "three"}, "x")).json();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list.at(0).at("prompt"), "one");
  EXPECT_EQ(list.at(1).at("index"), 1);
  EXPECT_EQ(list.at(1).at("prompt"), "three");
  EXPECT_EQ(post(fixture, kPath, {{"prompt", true}}).error_param, "prompt");
}

TEST(LlamaCompletion, ItsNamesAreKnownInChatsToo) {
  constexpr const char* kChat = "/v1/chat/completions";
  Fixture fixture;
  const OrderedJson hi = {{{"role", "user"}, {"content", "hi"}}};
  EXPECT_EQ(post(fixture, kChat, {{"messages", hi}, {"n_predict", 3}, {"ignore_eos", true}}).json().at("usage").at("completion_tokens"), 3);
  fixture.answers = {"12"};
  post(fixture, kChat, {{"messages", hi}, {"json_schema", {{"type", "integer"}}}});
  EXPECT_EQ(to_text(fixture.rules.at(0).schema), R"({"type":"integer"})");

  // A text's bias is that of its tokens.
  const OrderedJson biased = {{"messages", hi}, {"max_tokens", 8}, {"temperature", 0}, {"logit_bias", OrderedJson::array({{"a", 100}})}};
  EXPECT_EQ(post(fixture, kChat, biased).json().at("choices").at(0).at("message").at("content"), "aaaaaaaa");
}

}  // namespace
}  // namespace moiety::server
