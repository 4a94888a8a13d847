#include "server/api.h"

#include <cmath>
#include <cstring>

#include "server/constraints.h"
#include "server/protocols.h"
#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

TEST(Api, EveryRouteAndEveryFieldIsDescribed) {
  Fixture fixture;
  const OrderedJson json = get(fixture, "/openapi.json").json();
  for (const Route& route : fixture.routes) {
    std::string path = route.path, method = route.method;
    if (path.ends_with('*')) path.replace(path.size() - 1, 1, "{name}");
    if (json.at("paths").contains("/v1" + path)) path = "/v1" + path;  // the same without /v1
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    EXPECT_TRUE(json.at("paths").contains(path) && json.at("paths").at(path).contains(method)) << method << path;
  }
  const OrderedJson& chat = json.at("paths").at("/v1/chat/completions").at("post").at("requestBody").at("content").at("application/json").at("schema");
  for (const Field& field : chat_fields()) EXPECT_FALSE(chat.at("properties").at(field.name).at("description").get<std::string>().empty());
  EXPECT_EQ(chat.at("properties").at("temperature").at("minimum"), 0);
  EXPECT_TRUE(chat.at("properties").at("messages").at("items").at("properties").contains("tool_call_id"));
}

// A field that is read and not described would end the process here: readers assert it.
TEST(Api, AFieldThatIsNotInItsTableCannotBeRead) {
  const OrderedJson body = OrderedJson::object();
  EXPECT_DEATH(Fields(body, chat_fields()).text("no_such_field"), "not describe");
}

TEST(Api, ModelsAreListedAndFound) {
  Fixture fixture;
  const OrderedJson list = get(fixture, "/v1/models").json();
  EXPECT_EQ(list.at("object"), "list");
  ASSERT_EQ(list.at("data").size(), 1u);
  EXPECT_EQ(list.at("data").at(0).at("id"), "tiny");
  EXPECT_EQ(list.at("data").at(0).at("object"), "model");
  EXPECT_EQ(list.at("data").at(0).at("created"), 1700000000);
  EXPECT_EQ(get(fixture, "/v1/models/tiny.gguf").json(), list.at("data").at(0));
  EXPECT_EQ(list.at("data").at(0).at("aliases"), OrderedJson::array({"tiny.gguf"}));
  EXPECT_EQ(get(fixture, "/v1/models/other").status, 404);
}

TEST(Api, AModelIsKnownByItsPathWhichIsNotShown) {
  Fixture fixture;
  fixture.service.path = "/srv/models/tiny.gguf";
  EXPECT_EQ(post(fixture, "/v1/embeddings", {{"model", "/srv/models/tiny.gguf"}, {"input", "x"}}).json().at("model"), "tiny");
  for (const char* path : {"/v1/models", "/v1/models/tiny", "/props"}) EXPECT_EQ(to_text(get(fixture, path).json()).find("srv"), std::string::npos) << path;
}

TEST(Api, AServerMayAnswerToAnyName) {
  Fixture fixture;
  EXPECT_EQ(post(fixture, "/v1/embeddings", {{"model", "gpt-4o"}, {"input", "x"}}).error_code, "model_not_found");
  fixture.service.takes_any_name = true;
  EXPECT_EQ(post(fixture, "/v1/embeddings", {{"model", "gpt-4o"}, {"input", "x"}}).json().at("model"), "tiny");
}

TEST(Api, PathsOfOpenAiNeedNoVersion) {
  Fixture fixture;
  EXPECT_EQ(get(fixture, "/models").json(), get(fixture, "/v1/models").json());
  EXPECT_EQ(get(fixture, "/models/tiny").json(), get(fixture, "/v1/models/tiny").json());
  const OrderedJson chat = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"grammar", "ok"}};
  EXPECT_EQ(post(fixture, "/chat/completions", chat).json().at("choices").at(0).at("message").at("content"), "ok");
  EXPECT_EQ(post(fixture, "/completions", {{"prompt", "hi"}, {"grammar", "ok"}}).json().at("choices").at(0).at("text"), "ok");
}

TEST(Api, TellsTheContextInTheWordsOfLlamaCpp) {
  Fixture fixture(engine::EngineOptions{.context = 100, .max_running = 3});
  fixture.service.seed = 5;
  const OrderedJson props = get(fixture, "/props").json();
  EXPECT_EQ(props.at("default_generation_settings").at("n_ctx"), 100);
  EXPECT_EQ(props.at("default_generation_settings").at("params").at("seed"), 5);
  EXPECT_EQ(props.at("total_slots"), 3);
  EXPECT_EQ(props.at("chat_template"), kChatTemplate);
  EXPECT_EQ(props.at("eos_token"), "<|im_end|>");
  const OrderedJson slots = get(fixture, "/slots").json();
  ASSERT_EQ(slots.size(), 3u);
  EXPECT_EQ(to_text(slots.at(1)), R"({"id":1,"n_ctx":100,"is_processing":false})");
}

TEST(Api, TokensThereAndBack) {
  Fixture fixture;
  const std::string text = "the größe 中文 🙂 <|im_start|>";
  const OrderedJson tokens = post(fixture, "/tokenize", {{"content", text}}).json().at("tokens");
  EXPECT_EQ(tokens.get<std::vector<int32_t>>(), fixture.tokenizer.encode(text, false));
  EXPECT_EQ(post(fixture, "/detokenize", {{"tokens", tokens}}).json().at("content"), text);
  const OrderedJson pieces = post(fixture, "/tokenize", {{"content", "🙂\x01"}, {"with_pieces", true}}).json().at("tokens");
  EXPECT_EQ(pieces.at(pieces.size() - 1).at("piece"), "\x01");
  EXPECT_EQ(post(fixture, "/detokenize", {{"tokens", {-1}}}).error_param, "tokens");
  EXPECT_EQ(post(fixture, "/tokenize", OrderedJson::object()).error_param, "content");
}

TEST(Api, TemplatesAreShown) {
  Fixture fixture;
  const OrderedJson body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  EXPECT_EQ(post(fixture, "/apply-template", body).json().at("prompt"), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(Api, AModelWithoutATemplateDoesNotChat) {
  Fixture fixture;
  fixture.service.chat_template = nullptr;
  const OrderedJson body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  EXPECT_EQ(post(fixture, "/v1/chat/completions", body).error_code, "no_chat_template");
}

std::vector<float> from_base64(const std::string& text) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kAlphabet.find(c));
    if ((count += 6) >= 8) bytes += static_cast<char>(bits >> (count -= 8));
  }
  std::vector<float> floats(bytes.size() / 4);
  std::memcpy(floats.data(), bytes.data(), 4 * floats.size());
  return floats;
}

TEST(Embeddings, HaveLengthOneInEveryForm) {
  Fixture fixture;
  const auto length = [](const std::vector<float>& vector) {
    double squares = 0;
    for (const float x : vector) squares += double{x} * x;
    return std::sqrt(squares);
  };
  const OrderedJson json = post(fixture, "/v1/embeddings", {{"input", {"the sky", "the router"}}}).json();
  ASSERT_EQ(json.at("data").size(), 2u);
  EXPECT_EQ(json.at("data").at(1).at("index"), 1);
  const auto plain = json.at("data").at(0).at("embedding").get<std::vector<float>>();
  EXPECT_EQ(plain.size(), static_cast<size_t>(fixture.engine().spec().width));
  EXPECT_NEAR(length(plain), 1, 1e-5);
  EXPECT_NE(json.at("data").at(1).at("embedding").get<std::vector<float>>(), plain);
  EXPECT_EQ(json.at("usage").at("prompt_tokens"),
            fixture.tokenizer.encode("the sky", true).size() + fixture.tokenizer.encode("the router", true).size());

  const OrderedJson coded = post(fixture, "/v1/embeddings", {{"input", "the sky"}, {"encoding_format", "base64"}}).json();
  EXPECT_EQ(from_base64(coded.at("data").at(0).at("embedding")), plain);
  const OrderedJson tokens = post(fixture, "/v1/embeddings", {{"input", fixture.tokenizer.encode("the sky", true)}}).json();
  EXPECT_EQ(tokens.at("data").at(0).at("embedding").get<std::vector<float>>(), plain);

  const auto few = post(fixture, "/v1/embeddings", {{"input", "the sky"}, {"dimensions", 5}}).json().at("data").at(0).at("embedding").get<std::vector<float>>();
  ASSERT_EQ(few.size(), 5u);
  EXPECT_NEAR(length(few), 1, 1e-5);
  EXPECT_NEAR(few[0] / few[1], plain[0] / plain[1], 1e-4);
  EXPECT_EQ(post(fixture, "/v1/embeddings", {{"input", "x"}, {"dimensions", 1000}}).error_param, "dimensions");
  EXPECT_EQ(post(fixture, "/v1/embeddings", {{"input", ""}}).error_param, "input");
}

// A random model held to real grammars: whatever it draws parses.
class RealGrammars : public testing::Test {
 protected:
  RealGrammars() { fixture.service.constrain = grammar_constraints(fixture.tokenizer); }
  OrderedJson chat(OrderedJson more) {
    OrderedJson body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"temperature", 1.0}, {"max_tokens", 400}};
    body.update(more);
    const Recorded exchange = post(fixture, "/v1/chat/completions", body);
    EXPECT_EQ(exchange.status, 200) << exchange.body;
    return exchange.json().at("choices").at(0);
  }
  Fixture fixture;
};

TEST_F(RealGrammars, SchemasAreFollowed) {
  const OrderedJson schema = {{"type", "object"},
                              {"properties", {{"n", {{"type", "integer"}}}, {"kind", {{"enum", {"a", "b"}}}}}},
                              {"required", {"n", "kind"}},
                              {"additionalProperties", false}};
  for (int seed = 0; seed < 5; ++seed) {
    const OrderedJson choice = chat({{"seed", seed}, {"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}}}});
    const OrderedJson value = parse_ordered_json(choice.at("message").at("content").get<std::string>(), "answer");
    EXPECT_TRUE(value.at("n").is_number_integer());
    EXPECT_TRUE(value.at("kind") == "a" || value.at("kind") == "b");
    EXPECT_EQ(choice.at("finish_reason"), "stop");
  }
}

TEST_F(RealGrammars, ForcedCallsParse) {
  const OrderedJson tool = {{"type", "function"},
                            {"function", {{"name", "weather"}, {"parameters", {{"type", "object"}, {"properties", {{"n", {{"type", "integer"}}}}}, {"required", {"n"}}, {"additionalProperties", false}}}}}};
  for (int seed = 0; seed < 5; ++seed) {
    const OrderedJson choice = chat({{"seed", seed}, {"tools", {tool}}, {"tool_choice", "required"}});
    ASSERT_EQ(choice.at("message").at("tool_calls").size(), 1u);
    const OrderedJson& function = choice.at("message").at("tool_calls").at(0).at("function");
    EXPECT_EQ(function.at("name"), "weather");
    EXPECT_TRUE(parse_ordered_json(function.at("arguments").get<std::string>(), "arguments").at("n").is_number_integer());
    EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
  }
}

TEST_F(RealGrammars, AGrammarIsTheAnswerAndAWrongOneIsRefused) {
  EXPECT_EQ(chat({{"grammar", "root ::= \"größe \" [0-9] [0-9]"}}).at("message").at("content").get<std::string>().substr(0, 8), "größe ");
  const Recorded wrong = post(fixture, "/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"grammar", "root ::= \"x"}});
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(wrong.error_param, "grammar");
}

}  // namespace
}  // namespace moiety::server
