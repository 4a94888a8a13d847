#include <algorithm>

#include "support/api_fixture.h"

namespace moiety::server {
namespace {

using namespace test;

constexpr const char* kPath = "/v1/messages";

OrderedJson ask(const std::string& script, OrderedJson more = OrderedJson::object()) {
  OrderedJson body = {{"max_tokens", 200}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"grammar", script}};
  body.update(more);
  return body;
}

OrderedJson weather_tool() { return {{"name", "weather"}, {"input_schema", {{"type", "object"}}}}; }

constexpr const char* kScript =
    "<think>hm</think>Look.<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\"}}</tool_call>";

TEST(Messages, AnswersInBlocks) {
  Fixture fixture;
  const OrderedJson json = settled(post(fixture, kPath, ask(kScript, {{"tools", {weather_tool()}}})).json());
  EXPECT_EQ(to_text(json.at("content")),
            R"([{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"Look."},)"
            R"({"type":"tool_use","id":"toolu_ID","name":"weather","input":{"city":"Köln"}}])");
  EXPECT_EQ(json.at("stop_reason"), "tool_use");
  EXPECT_EQ(json.at("type"), "message");
  EXPECT_EQ(json.at("role"), "assistant");
}

TEST(Messages, StreamsBlockAfterBlock) {
  Fixture fixture;
  const Recorded exchange = post(fixture, kPath, ask(kScript, {{"tools", {weather_tool()}}, {"stream", true}}));
  // Deltas of one block are joined: how many there are is the tokenizer's business.
  std::vector<std::string> events;
  std::string joined;
  for (const auto& [name, data] : exchange.events) {
    OrderedJson json = settled(parse_ordered_json(data, "event"));
    EXPECT_EQ(json.at("type"), name);
    if (name == "content_block_delta" && json.at("delta").at("type") != "signature_delta") {
      for (const char* text : {"text", "thinking", "partial_json"}) joined += json.at("delta").value(text, "");
      continue;
    }
    if (!joined.empty()) events.push_back("+" + std::exchange(joined, {}));
    if (name == "message_start") json["message"]["usage"] = "USAGE";
    if (name == "message_delta") json["usage"] = "USAGE";
    events.push_back(to_text(json));
  }
  EXPECT_EQ(events, (std::vector<std::string>{
                        R"({"type":"message_start","message":{"id":"msg_ID","type":"message","role":"assistant","model":"tiny","content":[],"stop_reason":null,"stop_sequence":null,"usage":"USAGE"}})",
                        R"({"type":"ping"})",
                        R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})",
                        "+hm",
                        R"({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":""}})",
                        R"({"type":"content_block_stop","index":0})",
                        R"({"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}})",
                        "+Look.",
                        R"({"type":"content_block_stop","index":1})",
                        R"({"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_ID","name":"weather","input":{}}})",
                        "+{\"city\": \"Köln\"}",
                        R"({"type":"content_block_stop","index":2})",
                        R"({"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":"USAGE"})",
                        R"({"type":"message_stop"})"}));
  EXPECT_TRUE(exchange.has_ended);
  EXPECT_GT(std::ranges::count_if(exchange.events, [](const auto& event) { return event.second.find("input_json_delta") != std::string::npos; }), 3);
}

TEST(Messages, SaysWhyItStopped) {
  Fixture fixture;
  const OrderedJson stopped = post(fixture, kPath, ask("one two three", {{"stop_sequences", {" three", " two"}}})).json();
  EXPECT_EQ(stopped.at("stop_reason"), "stop_sequence");
  EXPECT_EQ(stopped.at("stop_sequence"), " two");
  EXPECT_EQ(stopped.at("content").at(0).at("text"), "one");
  const OrderedJson cut = post(fixture, kPath, ask("one two three", {{"max_tokens", 1}})).json();
  EXPECT_EQ(cut.at("stop_reason"), "max_tokens");
  EXPECT_EQ(cut.at("usage").at("output_tokens"), 1);
}

TEST(Messages, ConversationsReachTheTemplate) {
  Fixture fixture;
  OrderedJson body = ask("ok");
  body["system"] = {{{"type", "text"}, {"text", "be"}}, {{"type", "text"}, {"text", "brief"}}};
  body["messages"] = parse_ordered_json(R"([
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "I look."},
                                      {"type": "tool_use", "id": "t1", "name": "f", "input": {"z": 1, "a": 2}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                                 {"type": "text", "text": "and?"}]}])", "messages");
  const size_t tokens = fixture.tokenizer
                            .encode("<|im_start|>system\nbe\nbrief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                                    "<|im_start|>assistant\nI look.(hm)<tool_call>f{\"z\": 1, \"a\": 2}</tool_call><|im_end|>\n"
                                    "<|im_start|>tool\nrain<|im_end|>\n<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n",
                                    false)
                            .size();
  const OrderedJson counted = post(fixture, "/v1/messages/count_tokens", body).json();
  EXPECT_EQ(to_text(counted), "{\"input_tokens\":" + std::to_string(tokens) + "}");
  const OrderedJson usage = post(fixture, kPath, body).json().at("usage");
  EXPECT_EQ(usage.at("input_tokens").get<size_t>() + usage.at("cache_read_input_tokens").get<size_t>(), tokens);
}

TEST(Messages, GoesOnWithWhatTheAssistantHasBegun) {
  Fixture fixture;
  OrderedJson body = ask(" blue");
  body["messages"].push_back({{"role", "assistant"}, {"content", "The sky is"}});
  EXPECT_EQ(post(fixture, kPath, body).json().at("content").at(0).at("text"), " blue");
}

TEST(Messages, ChoicesOfToolsAreObeyed) {
  Fixture fixture;
  OrderedJson body = ask("", {{"tools", {weather_tool()}}, {"tool_choice", {{"type", "any"}}}});
  body.erase("grammar");
  fixture.answers = {kScript};
  EXPECT_EQ(post(fixture, kPath, body).json().at("stop_reason"), "tool_use");
  EXPECT_EQ(fixture.rules.at(0).kind, OutputRule::Kind::Calls);
  body["tool_choice"] = {{"type", "tool"}, {"name", "other"}};
  EXPECT_EQ(post(fixture, kPath, body).error_param, "tool_choice");
}

TEST(Messages, WrongFieldsAreNamed) {
  Fixture fixture;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"messages": [{"role": "user", "content": "hi"}]})", "max_tokens"},
      {R"({"max_tokens": 5})", "messages"},
      {R"({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image"}]}]})", "messages[0].content[0].type"},
      {R"({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "tool_use", "name": "x"}]}]})", "messages[0].content[0].type"},
      {R"({"max_tokens": 5, "messages": [{"role": "king", "content": "hi"}]})", "messages[0].role"},
      {R"({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "stop_sequences": "x"})", "stop_sequences"},
      {R"({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "thinking": {"type": "x"}})", "thinking.type"},
      {R"({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "bash_20250124", "name": "bash"}]})", "tools[0].type"},
      {R"({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tool_choice": {"type": "x"}})", "tool_choice.type"},
  };
  for (const auto& [body, param] : cases) {
    Recorded exchange("POST", kPath, body);
    run(fixture, exchange);
    EXPECT_EQ(exchange.status, 400) << body;
    EXPECT_EQ(exchange.error_param, param) << body << ": " << exchange.body;
  }
}

}  // namespace
}  // namespace moiety::server
