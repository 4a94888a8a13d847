// For the tests of this folder: an engine over a tiny random model with a chat template, answers that follow a script, and an
// exchange without a network.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <deque>
#include <exception>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "server/api.h"
#include "support/fixtures.h"
#include "support/random_model.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_trainer.h"
#include "text/utf8.h"

namespace moiety::server::test {

namespace asio = boost::asio;

// Qwen's marks: turns, reasoning, calls as JSON.
inline constexpr const char* kChatTemplate =
    "{%- if tools %}<|im_start|>system\nYou may use <tool_call>: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if m.content else '' }}"
    "{%- if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
    "{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}";

// Bytes, some merges, and the marks of the template; token 256 and up are words of a few letters.
inline spec::TokenizerSpec tokenizer_spec() {
  static constexpr std::string_view kText =
      "the weather the router sends the token to the expert größe größe 中文字 中文 🙂🙂 {\"name\": {\"arguments\": the the the";
  spec::TokenizerSpec spec = text::train_tokenizer({&kText, 1}, {.vocab_size = 330});
  const auto add = [&](const char* content, bool special) {
    const auto id = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(content);
    if (!spec.types.empty()) spec.types.push_back(special ? spec::TokenType::Control : spec::TokenType::UserDefined);
    if (!spec.scores.empty()) spec.scores.push_back(0);
    spec.added.push_back({.id = id, .content = content, .special = special});
  };
  for (const char* mark : {"<|im_start|>", "<|im_end|>"}) add(mark, true);
  for (const char* mark : {"<think>", "</think>", "<tool_call>", "</tool_call>"}) add(mark, false);
  return spec;
}

// Lets one sequence of tokens through, and then a stop token.
class Script final : public engine::TokenConstraint {
 public:
  explicit Script(std::vector<int32_t> tokens) : tokens_(std::move(tokens)) {}
  bool allows(int32_t token) override { return token == next(); }
  void mask(std::span<float> logits_V) override {
    for (size_t v = 0; v < logits_V.size(); ++v) {
      if (static_cast<int32_t>(v) != next()) logits_V[v] = -std::numeric_limits<float>::infinity();
    }
  }
  void accept(int32_t) override { ++at_; }

 private:
  int32_t next() const { return tokens_[std::min(at_, tokens_.size() - 1)]; }
  std::vector<int32_t> tokens_;
  size_t at_ = 0;
};

// A service that answers what "grammar" says: text, token by token as the tokenizer cuts it, or "tokens:[1,2,3]".
class Fixture {
 public:
  explicit Fixture(engine::EngineOptions options = {}) : Fixture(tokenizer_spec(), options) {}

  Fixture(spec::TokenizerSpec tokenizer_spec, engine::EngineOptions options)
      : tokenizer(std::move(tokenizer_spec)),
        model_(write_model()),
        threads_(1),
        compute_{*kernel::available_kernels()[0], threads_, kernel::Arithmetic::Fast},
        transformer_(model_, compute_),
        engine_(std::make_unique<engine::Engine>(transformer_, options)),
        chat_template({{"default", kChatTemplate}}, {{"eos_token", "<|im_end|>"}}, "template"),
        service{.engine = *engine_, .tokenizer = tokenizer, .chat_template = &chat_template, .model = "tiny", .other_names = {"tiny.gguf"},
                .created = 1700000000} {
    service.now = [] { return jinja::parse_date_time("2025-01-15"); };
    service.time = [] { return int64_t{1700000001}; };
    service.constrain = [this](const OutputRule& rule, std::span<const int32_t>) {
      rules.push_back(rule);
      return std::make_unique<Script>(script_of(rule));
    };
    routes = api_routes(service);
  }

  int32_t id(std::string_view token) const { return tokenizer.find(token).value(); }
  engine::Engine& engine() { return *engine_; }
  void stop_engine() { engine_.reset(); }

  const text::Tokenizer tokenizer;

 private:
  // What is no grammar gets the `answers`, in turn.
  std::vector<int32_t> script_of(const OutputRule& rule) {
    std::string text = rule.grammar;
    if (text.empty() && !answers.empty()) {
      text = answers.front();
      answers.pop_front();
    }
    std::vector<int32_t> tokens;
    if (text.starts_with("tokens:")) {
      tokens = parse_json(text.substr(7), "script").get<std::vector<int32_t>>();
    } else {
      tokens = tokenizer.encode(text, false);
    }
    tokens.push_back(id("<|im_end|>"));
    return tokens;
  }

  format::ModelFile write_model() {
    spec::ModelSpec spec = moiety::test::small_spec();
    spec.vocab_size = tokenizer.vocab_size();
    spec.max_positions = 512;
    spec.bos_token = -1;
    spec.eos_tokens = {id("<|im_end|>")};
    moiety::test::write_random_checkpoint(spec, folder_.path() / "model");
    return format::ModelFile(folder_.path() / "model");
  }

  moiety::test::TemporaryFolder folder_;
  format::ModelFile model_;
  ThreadPool threads_;
  kernel::Compute compute_;
  model::Transformer transformer_;
  std::unique_ptr<engine::Engine> engine_;

 public:
  const text::ChatTemplate chat_template;
  Service service;
  std::vector<Route> routes;
  std::deque<std::string> answers;  // what comes where the rule is no grammar
  std::vector<OutputRule> rules;    // that were asked for
};

// Records what was sent.
class Recorded final : public Exchange {
 public:
  Recorded(std::string method, std::string path, std::string sent) {
    request_.method = std::move(method);
    request_.path = std::move(path);
    request_.body = std::move(sent);
    request_.client = "somebody";
  }
  const HttpRequest& request() const override { return request_; }
  Task<> answer(int status_, std::string_view type, std::string body_, Headers) override {
    EXPECT_FALSE(has_begun()) << "answered twice";
    status = status_, content_type = type, body = std::move(body_), begun_ = true;
    co_return;
  }
  Task<> begin_events(Headers) override {
    EXPECT_FALSE(has_begun()) << "answered twice";
    begun_ = is_stream = true;
    status = 200;
    co_return;
  }
  Task<> send_event(std::string_view data, std::string_view name) override {
    EXPECT_TRUE(is_stream && !has_ended);
    events.push_back({std::string(name), std::string(data)});
    if (on_event) on_event();
    co_return;
  }
  Task<> end_events() override {
    EXPECT_TRUE(is_stream && !has_ended);
    has_ended = true;
    co_return;
  }
  bool has_begun() const override { return begun_; }

  OrderedJson json() const { return parse_ordered_json(body, "answer"); }

  int status = 0;
  std::string content_type, body;
  std::vector<std::pair<std::string, std::string>> events;  // name, data
  bool is_stream = false, has_ended = false;
  std::function<void()> on_event;
  std::string error_code, error_param;  // of an HttpError that was thrown

 private:
  HttpRequest request_;
  bool begun_ = false;
};

inline const Route* route_of(const std::vector<Route>& routes, const std::string& method, const std::string& path) {
  const Route* star = nullptr;
  for (const Route& route : routes) {
    if (route.method != method) continue;
    if (route.path == path) return &route;
    if (route.path.ends_with('*') && path.starts_with(route.path.substr(0, route.path.size() - 1))) star = &route;
  }
  return star;
}

inline Task<> handled(const Route& route, Exchange& exchange, std::exception_ptr& thrown) {
  try {
    co_await route.handle(exchange);
  } catch (...) {
    thrown = std::current_exception();
  }
  co_await asio::this_coro::reset_cancellation_state();  // or co_spawn's own last wait would throw
}

// As the network would run it: on an executor of one thread, an HttpError becoming a status and the sentence as the body.
// `cancel`, if there is one, is connected to the task.
inline void run(Fixture& fixture, Recorded& exchange, asio::cancellation_signal* cancel = nullptr) {
  const Route* route = route_of(fixture.routes, exchange.request().method, exchange.request().path);
  ASSERT_NE(route, nullptr) << exchange.request().path;
  asio::io_context context;
  std::exception_ptr thrown;
  if (cancel != nullptr) {
    asio::co_spawn(context, handled(*route, exchange, thrown), asio::bind_cancellation_slot(cancel->slot(), asio::detached));
  } else {
    asio::co_spawn(context, handled(*route, exchange, thrown), asio::detached);
  }
  context.run();
  if (!thrown) return;
  try {
    std::rethrow_exception(thrown);
  } catch (const HttpError& error) {
    exchange.status = error.status, exchange.body = error.what();
    exchange.error_code = error.code, exchange.error_param = error.param;
  } catch (const Error& error) {
    exchange.status = error.kind() == ErrorKind::Input ? 400 : 500, exchange.body = error.what();
  } catch (const boost::system::system_error&) {
    EXPECT_NE(cancel, nullptr);
  }
}

inline Recorded get(Fixture& fixture, const std::string& path) {
  Recorded exchange("GET", path, "");
  run(fixture, exchange);
  return exchange;
}

inline Recorded post(Fixture& fixture, const std::string& path, const OrderedJson& body) {
  Recorded exchange("POST", path, to_text(body));
  run(fixture, exchange);
  return exchange;
}

// Names that are new each time and times become what they are of, so that answers can be compared.
inline OrderedJson settled(OrderedJson json) {
  if (json.is_array()) {
    for (OrderedJson& item : json) item = settled(item);
  }
  if (json.is_object()) {
    for (auto& [key, value] : json.items()) {
      const bool is_id = (key == "id" || key.ends_with("_id")) && value.is_string();
      if (is_id) {
        const std::string id = value.get<std::string>();
        value = id.substr(0, id.find_first_of("-_") + 1) + "ID";
      } else if (key == "timings") {
        value = "TIMINGS";
      } else {
        value = settled(value);
      }
    }
  }
  return json;
}

}  // namespace moiety::server::test
