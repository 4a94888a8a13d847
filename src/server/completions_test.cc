#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

constexpr const char* kPath = "/v1/completions";

OrderedJson ask(const OrderedJson& prompt, const std::string& script, OrderedJson more = OrderedJson::object()) {
  OrderedJson body = {{"prompt", prompt}, {"grammar", script}, {"max_tokens", 100}};
  body.update(more);
  return body;
}

TEST(Completions, PromptsComeInFourForms) {
  Fixture fixture;
  const OrderedJson tokens = fixture.tokenizer.encode("the sky", true);
  for (const OrderedJson& prompt : {OrderedJson("the sky"), tokens, OrderedJson::array({"the sky"}), OrderedJson::array({tokens})}) {
    const OrderedJson json = post(fixture, kPath, ask(prompt, " is blue")).json();
    EXPECT_EQ(to_text(json.at("choices")), R"([{"text":" is blue","index":0,"logprobs":null,"finish_reason":"stop"}])");
    EXPECT_EQ(json.at("object"), "text_completion");
    EXPECT_EQ(json.at("system_fingerprint"), "moiety");
    EXPECT_EQ(json.at("usage").at("prompt_tokens"), tokens.size());
  }
  const std::vector<int32_t> sky = fixture.tokenizer.encode(" sky", false);
  OrderedJson mixed = {"the"};
  for (const int32_t token : sky) mixed.insert(mixed.begin(), token);
  EXPECT_EQ(post(fixture, kPath, ask(mixed, "x")).json().at("usage").at("prompt_tokens"), sky.size() + fixture.tokenizer.encode("the", false).size());
  const OrderedJson two = post(fixture, kPath, ask({"one", "three"}, "x", {{"n", 2}})).json();
  ASSERT_EQ(two.at("choices").size(), 4u);
  EXPECT_EQ(two.at("choices").at(3).at("index"), 3);
  EXPECT_EQ(two.at("usage").at("prompt_tokens"), fixture.tokenizer.encode("one", true).size() + fixture.tokenizer.encode("three", true).size());
}

TEST(Completions, EchoAndLogProbabilitiesHaveTheirOffsets) {
  Fixture fixture;
  const OrderedJson more = {{"echo", true}, {"logprobs", 2}};
  const OrderedJson choice = post(fixture, kPath, ask("the größe", " 中文", more)).json().at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "the größe 中文");
  const OrderedJson& logprobs = choice.at("logprobs");
  const size_t prompt = fixture.tokenizer.encode("the größe", true).size(), answer = fixture.tokenizer.encode(" 中文", false).size();
  ASSERT_EQ(logprobs.at("tokens").size(), prompt + answer);
  for (const char* name : {"token_logprobs", "top_logprobs", "text_offset"}) EXPECT_EQ(logprobs.at(name).size(), prompt + answer) << name;
  EXPECT_TRUE(logprobs.at("token_logprobs").at(0).is_null());
  EXPECT_TRUE(logprobs.at("token_logprobs").at(1).is_number());
  EXPECT_EQ(logprobs.at("text_offset").at(0), 0);
  EXPECT_EQ(logprobs.at("text_offset").at(prompt), 9);  // characters of the prompt
  EXPECT_LE(logprobs.at("top_logprobs").at(prompt).size(), 2u);

  OrderedJson streamed = more;
  streamed["stream"] = true;
  const Recorded exchange = post(fixture, kPath, ask("the größe", " 中文", streamed));
  std::string text;
  size_t tokens = 0;
  for (const auto& [name, data] : exchange.events) {
    if (data == "[DONE]") continue;
    const OrderedJson event = parse_ordered_json(data, "event").at("choices").at(0);
    text += event.at("text").get<std::string>();
    if (!event.at("logprobs").is_null()) tokens += event.at("logprobs").at("tokens").size();
  }
  EXPECT_EQ(text, "the größe 中文");
  EXPECT_EQ(tokens, prompt + answer);
}

TEST(Completions, NoTokenIsAnAnswerToo) {
  Fixture fixture;
  const OrderedJson json = post(fixture, kPath, ask("the sky", "x", {{"max_tokens", 0}, {"echo", true}})).json();
  EXPECT_EQ(json.at("choices").at(0).at("text"), "the sky");
  EXPECT_EQ(json.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(json.at("usage").at("completion_tokens"), 0);
}

TEST(Completions, WhatIsTooLongIsToldAsClientsKnowIt) {
  Fixture fixture(engine::EngineOptions{.context = 8});
  const Recorded exchange = post(fixture, kPath, {{"prompt", {1, 2, 3, 4, 5, 6, 7, 8}}});
  EXPECT_EQ(exchange.error_code, "context_length_exceeded");
  EXPECT_EQ(exchange.body, "prompt is too long: 8 tokens > 7 maximum; the context has 8");
}

TEST(Completions, TheBestIsTheLikeliest) {
  Fixture fixture;
  OrderedJson body = {{"prompt", "the"}, {"max_tokens", 6}, {"seed", 3}, {"temperature", 1.5}, {"ignore_eos", true}};
  OrderedJson all = body, best = body;
  all["n"] = 5, all["logprobs"] = 0, best["best_of"] = 5;
  const OrderedJson choices = post(fixture, kPath, all).json().at("choices");
  std::string likeliest;
  double most = -1e9;
  for (const OrderedJson& choice : choices) {
    double sum = 0;
    for (const OrderedJson& logprob : choice.at("logprobs").at("token_logprobs")) sum += logprob.get<double>();
    if (sum > most) most = sum, likeliest = choice.at("text");
  }
  const OrderedJson json = post(fixture, kPath, best).json();
  ASSERT_EQ(json.at("choices").size(), 1u);
  EXPECT_EQ(json.at("choices").at(0).at("text"), likeliest);
  EXPECT_TRUE(json.at("choices").at(0).at("logprobs").is_null());
  EXPECT_EQ(json.at("usage").at("completion_tokens"), 30);
}

TEST(Completions, WrongPromptsAreRefused) {
  Fixture fixture;
  const std::vector<std::pair<OrderedJson, std::string>> cases = {
      {{{"prompt", {1, 99999}}}, "prompt"},         {{{"prompt", {{1}, "x", 2}}}, "prompt"}, {{{"prompt", OrderedJson::array()}}, "prompt"},
      {{{"prompt", true}}, "prompt"},               {OrderedJson::object(), "prompt"},       {{{"prompt", "x"}, {"suffix", "y"}}, "suffix"},
      {{{"prompt", "x"}, {"n", 3}, {"best_of", 2}}, "best_of"}, {{{"prompt", std::string(3000, 'x')}}, "prompt"},
      {{{"prompt", "x"}, {"logprobs", 21}}, "logprobs"}};
  for (const auto& [body, param] : cases) {
    const Recorded exchange = post(fixture, kPath, body);
    EXPECT_EQ(exchange.status, 400) << to_text(body);
    EXPECT_EQ(exchange.error_param, param) << to_text(body) << exchange.body;
  }
}

}  // namespace
}  // namespace moiety::server
