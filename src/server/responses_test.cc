#include <algorithm>

#include "server/response_store.h"
#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

constexpr const char* kPath = "/v1/responses";
constexpr const char* kScript =
    "<think>hm</think>Look.<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\"}}</tool_call>";

OrderedJson ask(const std::string& script, OrderedJson more = OrderedJson::object()) {
  OrderedJson body = {{"input", "hi"}, {"grammar", script}};
  body.update(more);
  return body;
}

OrderedJson weather_tool() { return {{"type", "function"}, {"name", "weather"}, {"parameters", {{"type", "object"}}}}; }

constexpr const char* kOutput =
    R"([{"id":"rs_ID","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}],"status":"completed"},)"
    R"({"id":"msg_ID","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Look.","annotations":[],"logprobs":[]}]},)"
    R"({"id":"fc_ID","type":"function_call","status":"completed","call_id":"call_ID","name":"weather","arguments":"{\"city\": \"Köln\"}"}])";

TEST(Responses, AnswersInItems) {
  Fixture fixture;
  const OrderedJson json = settled(post(fixture, kPath, ask(kScript, {{"tools", {weather_tool()}}})).json());
  EXPECT_EQ(to_text(json.at("output")), kOutput);
  EXPECT_EQ(json.at("id"), "resp_ID");
  EXPECT_EQ(json.at("object"), "response");
  EXPECT_EQ(json.at("status"), "completed");
  EXPECT_EQ(json.at("tools").at(0).at("name"), "weather");
  const OrderedJson& usage = json.at("usage");
  EXPECT_EQ(usage.at("total_tokens").get<int>(), usage.at("input_tokens").get<int>() + usage.at("output_tokens").get<int>());
  EXPECT_GT(usage.at("output_tokens_details").at("reasoning_tokens").get<int>(), 0);
}

TEST(Responses, StreamsTheWholeSequence) {
  Fixture fixture;
  const Recorded exchange = post(fixture, kPath, ask(kScript, {{"tools", {weather_tool()}}, {"stream", true}}));
  std::vector<std::string> names;
  std::map<std::string, std::string> deltas;
  int64_t number = 0;
  for (const auto& [name, data] : exchange.events) {
    const OrderedJson json = settled(parse_ordered_json(data, "event"));
    EXPECT_EQ(json.at("type"), name);
    EXPECT_EQ(json.at("sequence_number"), number++);
    if (name.ends_with(".delta")) deltas[name] += json.at("delta").get<std::string>();
    if (names.empty() || names.back() != name) names.push_back(name);
    if (name == "response.completed") {
      EXPECT_EQ(to_text(json.at("response").at("output")), kOutput);
    }
    if (name == "response.function_call_arguments.done") {
      EXPECT_EQ(json.at("arguments"), "{\"city\": \"Köln\"}");
    }
    if (name == "response.output_text.done") {
      EXPECT_EQ(json.at("text"), "Look.");
    }
  }
  EXPECT_EQ(names, (std::vector<std::string>{
                       "response.created", "response.in_progress",
                       "response.output_item.added", "response.content_part.added", "response.reasoning_text.delta",
                       "response.reasoning_text.done", "response.content_part.done", "response.output_item.done",
                       "response.output_item.added", "response.content_part.added", "response.output_text.delta",
                       "response.output_text.done", "response.content_part.done", "response.output_item.done",
                       "response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.done",
                       "response.output_item.done", "response.completed"}));
  EXPECT_EQ(deltas["response.reasoning_text.delta"], "hm");
  EXPECT_EQ(deltas["response.output_text.delta"], "Look.");
  EXPECT_EQ(deltas["response.function_call_arguments.delta"], "{\"city\": \"Köln\"}");
  EXPECT_GT(std::ranges::count_if(exchange.events, [](const auto& event) { return event.first == "response.function_call_arguments.delta"; }), 3);
  EXPECT_TRUE(exchange.has_ended);
}

size_t tokens_of(const Fixture& fixture, const std::string& text) { return fixture.tokenizer.encode(text, false).size(); }

TEST(Responses, GoesOnFromAnEarlierOne) {
  Fixture fixture;
  const std::string first = post(fixture, kPath, ask(kScript, {{"tools", {weather_tool()}}, {"instructions", "once"}})).json().at("id");
  OrderedJson body = ask("It rains.");
  body["previous_response_id"] = first;
  body["input"] = parse_ordered_json(R"([{"type": "function_call_output", "call_id": "call_1", "output": "rain"}])", "input");
  const OrderedJson second = post(fixture, kPath, body).json();
  EXPECT_EQ(second.at("usage").at("input_tokens"),
            tokens_of(fixture, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nLook.(hm)<tool_call>weather{\"city\": \"Köln\"}</tool_call><|im_end|>\n"
                               "<|im_start|>tool\nrain<|im_end|>\n<|im_start|>assistant\n"));

  OrderedJson unstored = ask("x", {{"store", false}});
  OrderedJson after = ask("x");
  after["previous_response_id"] = post(fixture, kPath, unstored).json().at("id");
  const Recorded exchange = post(fixture, kPath, after);
  EXPECT_EQ(exchange.status, 404);
  EXPECT_EQ(exchange.error_param, "previous_response_id");
}

TEST(Responses, AreFetchedAndForgotten) {
  Fixture fixture;
  const OrderedJson whole = post(fixture, kPath, ask("It rains.")).json();
  const Recorded streamed = post(fixture, kPath, ask("It snows.", {{"stream", true}}));
  const OrderedJson last = parse_ordered_json(streamed.events.back().second, "event").at("response");
  for (const OrderedJson& response : {whole, last}) {
    const std::string path = std::string(kPath) + "/" + response.at("id").get<std::string>();
    EXPECT_EQ(get(fixture, path).json(), response);
    const auto forget = [&] {
      Recorded exchange("DELETE", path, "");
      run(fixture, exchange);
      return exchange;
    };
    EXPECT_EQ(forget().json().at("deleted"), true);
    EXPECT_EQ(forget().status, 404);
    EXPECT_EQ(get(fixture, path).status, 404);
  }
  EXPECT_EQ(get(fixture, "/v1/responses/").status, 404);
}

TEST(Responses, ItemsBecomeMessages) {
  Fixture fixture;
  OrderedJson body = ask("ok", {{"instructions", "be brief"}});
  body["input"] = parse_ordered_json(R"([
    {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Look.", "annotations": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{\"a\": 1}"},
    {"type": "function_call_output", "call_id": "c", "output": "rain"}])", "input");
  EXPECT_EQ(post(fixture, kPath, body).json().at("usage").at("input_tokens"),
            tokens_of(fixture, "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                               "<|im_start|>assistant\nLook.(hm)<tool_call>f{\"a\": 1}</tool_call><|im_end|>\n"
                               "<|im_start|>tool\nrain<|im_end|>\n<|im_start|>assistant\n"));
}

TEST(Responses, SaysThatItIsIncomplete) {
  Fixture fixture;
  const OrderedJson more = {{"max_output_tokens", 1}};
  const OrderedJson json = post(fixture, kPath, ask("one two", more)).json();
  EXPECT_EQ(json.at("status"), "incomplete");
  EXPECT_EQ(json.at("incomplete_details").at("reason"), "max_output_tokens");
  OrderedJson streamed = more;
  streamed["stream"] = true;
  EXPECT_EQ(post(fixture, kPath, ask("one two", streamed)).events.back().first, "response.incomplete");
}

TEST(Responses, TextFormatsBecomeRules) {
  Fixture fixture;
  OrderedJson body = {{"input", "hi"}, {"text", {{"format", {{"type", "json_schema"}, {"name", "x"}, {"schema", {{"type", "integer"}}}}}}}};
  fixture.answers = {"12"};
  EXPECT_EQ(post(fixture, kPath, body).json().at("output").at(0).at("content").at(0).at("text"), "12");
  EXPECT_EQ(to_text(fixture.rules.at(0).schema), R"({"type":"integer"})");
}

TEST(Responses, WrongFieldsAreNamed) {
  Fixture fixture;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{}", "input"},
      {R"({"input": 1})", "input"},
      {R"({"input": []})", "input"},
      {R"({"input": [{"type": "web_search_call"}]})", "input[0].type"},
      {R"({"input": [{"role": "king", "content": ""}]})", "input[0].role"},
      {R"({"input": [{"role": "user", "content": [{"type": "input_image"}]}]})", "input[0].content[0].type"},
      {R"({"input": "x", "tools": [{"type": "web_search"}]})", "tools[0].type"},
      {R"({"input": "x", "background": true})", "background"},
      {R"({"input": "x", "text": {"format": {"type": "xml"}}})", "text.format.type"},
  };
  for (const auto& [body, param] : cases) {
    Recorded exchange("POST", kPath, body);
    run(fixture, exchange);
    EXPECT_EQ(exchange.status, 400) << body;
    EXPECT_EQ(exchange.error_param, param) << body << ": " << exchange.body;
  }
}

TEST(ResponseStore, KeepsTheLatestWithinItsBounds) {
  ResponseStore store(2, 100);
  store.put("a", {"first"}, 1);
  store.put("b", {"second"}, 2);
  store.put("c", {"third"}, 3);
  EXPECT_FALSE(store.messages("a"));
  EXPECT_EQ(to_text(store.messages("b").value()), "[\"second\"]");
  EXPECT_EQ(store.response("b"), "2");
  store.put("d", OrderedJson(std::string(40, 'x')), std::string(40, 'y'));
  EXPECT_FALSE(store.messages("b"));
  EXPECT_TRUE(store.messages("d"));
  store.put("e", {}, std::string(200, 'x'));
  EXPECT_FALSE(store.messages("e"));
  EXPECT_TRUE(store.messages("d"));
  EXPECT_TRUE(store.remove("d"));
  EXPECT_FALSE(store.remove("d"));
  EXPECT_FALSE(store.response("d"));
  for (const char* id : {"f", "g"}) store.put(id, OrderedJson(std::string(40, 'x')), 1);  // what was forgotten takes no room
  EXPECT_TRUE(store.messages("f"));
}

}  // namespace
}  // namespace moiety::server
