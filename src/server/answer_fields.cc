#include "server/answer_fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

namespace moiety::server {
namespace {

constexpr size_t kMostStops = 16, kLongestStop = 256, kMostBiases = 10'000;

FieldTable router_fields() {
  static const std::vector<Field> rows = {
      {"experts_per_token", FieldType::Integer, "experts that each token visits", 1, 1000},
      {"bias", FieldType::List, "[[layer, expert, number], …]: added to the router's logits"},
  };
  return rows;
}

void add_bias(const Service& service, const Fields& fields, int64_t token, double bias, AnswerRequest& request) {
  const int vocabulary = service.engine.spec().vocab_size;
  if (token < 0 || token >= vocabulary) fields.wrong("logit_bias", fmt::format("names token {}: ids go from 0 to {}", token, vocabulary - 1));
  if (request.sampling.logit_bias.size() == kMostBiases) fields.wrong("logit_bias", fmt::format("must name at most {} tokens", kMostBiases));
  if (!(std::abs(bias) <= 100)) fields.wrong("logit_bias", fmt::format("must have numbers from -100 to 100, found {}", bias));
  request.sampling.logit_bias.push_back({static_cast<int32_t>(token), static_cast<float>(bias)});
}

// A text instead of an id stands for all its tokens, as in llama.cpp's server.
void add_bias(const Service& service, const Fields& fields, const std::string& text, double bias, AnswerRequest& request) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error == std::errc() && end == text.data() + text.size()) return add_bias(service, fields, id, bias, request);
  for (const int32_t token : service.tokenizer.encode(text, false)) add_bias(service, fields, int64_t{token}, bias, request);
}

// {"id": number} as OpenAI has it, or [[id, number]].
void read_logit_bias(const Service& service, const Fields& fields, AnswerRequest& request) {
  const OrderedJson* bias = fields.any("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_structured()) fields.wrong("logit_bias", fmt::format("must be an object of token ids and numbers, found {}", shown(*bias)));
  if (bias->is_object()) {
    for (const auto& [key, value] : bias->items()) {
      if (!value.is_number()) fields.wrong("logit_bias", fmt::format("must have numbers for values, found {}", shown(value)));
      add_bias(service, fields, key, value.get<double>(), request);
    }
    return;
  }
  for (const OrderedJson& pair : *bias) {
    const bool right = pair.is_array() && pair.size() == 2 && (pair[0].is_number_integer() || pair[0].is_string()) && pair[1].is_number();
    if (!right) fields.wrong("logit_bias", "as a list must have pairs of a token id and a number");
    const double number = pair[1].get<double>();
    if (pair[0].is_string()) {
      add_bias(service, fields, pair[0].get<std::string>(), number, request);
    } else {
      add_bias(service, fields, pair[0].get<int64_t>(), number, request);
    }
  }
}

void add_schema(const Fields& fields, const char* name, const OrderedJson& schema, AnswerRequest& request) {
  if (!schema.is_object() && !schema.is_boolean()) fields.wrong(name, fmt::format("must be a JSON schema, found {}", shown(schema)));
  if (request.rule) fields.wrong(name, fmt::format("and '{}' can't both be given", request.rule->field));
  request.rule = OutputRule{.kind = OutputRule::Kind::Schema, .schema = schema, .field = fields.param(name)};
}

void read_router(const Service& service, const Fields& fields, AnswerRequest& request) {
  const OrderedJson* object = fields.object("router");
  if (object == nullptr) return;
  const spec::ModelSpec& spec = service.engine.spec();
  const int experts = spec.moe.router.num_experts;
  const Fields router(*object, router_fields(), "router");
  auto chosen = std::make_shared<model::RouterOverride>();
  if (const auto count = router.integer("experts_per_token")) {
    if (*count > experts) router.wrong("experts_per_token", fmt::format("must be at most {}, the experts of a layer", experts));
    chosen->experts_per_token = static_cast<int>(*count);
  }
  if (const OrderedJson* bias = router.list("bias")) {
    chosen->bias_LE.resize(static_cast<size_t>(spec.num_layers) * static_cast<size_t>(experts));
    for (const OrderedJson& row : *bias) {
      const bool right = row.is_array() && row.size() == 3 && row[0].is_number_integer() && row[1].is_number_integer() && row[2].is_number();
      if (!right) router.wrong("bias", "must be a list of [layer, expert, number]");
      const int64_t layer = row[0].get<int64_t>(), expert = row[1].get<int64_t>();
      const double number = row[2].get<double>();
      if (layer < 0 || layer >= spec.num_layers) router.wrong("bias", fmt::format("names layer {}: they go from 0 to {}", layer, spec.num_layers - 1));
      if (expert < 0 || expert >= experts) router.wrong("bias", fmt::format("names expert {}: they go from 0 to {}", expert, experts - 1));
      if (!(std::abs(number) <= 1000)) router.wrong("bias", fmt::format("must have numbers from -1000 to 1000, found {}", number));
      chosen->bias_LE[static_cast<size_t>(layer * experts + expert)] = static_cast<float>(number);
    }
  }
  request.router = std::move(chosen);
}

}  // namespace

FieldTable format_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "text, json_object or json_schema"},
      {"json_schema", FieldType::Object, "name, strict and the schema"},
      {"schema", FieldType::Any, "the schema, where it stands beside the type"},
  };
  return rows;
}

std::vector<Field> with_answer_fields(std::vector<Field> rows) {
  rows.insert(rows.end(), {
      {"temperature", FieldType::Number, "0: always the likeliest token", 0, 100},
      {"top_p", FieldType::Number, "only the likeliest tokens that together have this probability", 0, 1},
      {"top_k", FieldType::Integer, "only the k likeliest tokens; 0 or -1: all", -1, 1e9},
      {"min_p", FieldType::Number, "only tokens at least this share as likely as the likeliest", 0, 1},
      {"presence_penalty", FieldType::Number, "taken off the logit of tokens that the answer has", -100, 100},
      {"frequency_penalty", FieldType::Number, "the same, once for each time", -100, 100},
      {"repetition_penalty", FieldType::Number, "more than 1 discourages tokens of prompt and answer", 0.01, 100},
      {"repeat_penalty", FieldType::Number, "the same, as llama.cpp's server calls it", 0.01, 100},
      {"seed", FieldType::Integer, "the same seed gives the same text; -1 or none: a new one each time"},
      {"stop", FieldType::TextOrList, "texts that end the answer and are not part of it, at most 16 of 256 bytes"},
      {"logit_bias", FieldType::Any, "{\"token id\": number}, or pairs of them: added to the token's logit, -100 to 100; a text instead of an id is all its tokens"},
      {"grammar", FieldType::Text, "a GBNF grammar that the answer follows"},
      {"json_schema", FieldType::Any, "a JSON schema that the answer follows: response_format in short"},
      {"router", FieldType::Object, "experts_per_token, and bias: [[layer, expert, number], …] added to the router's logits, for this answer",
       router_fields},
      {"ignore_eos", FieldType::Flag, "the answer goes on where the model would end it"},
      {"priority", FieldType::Integer, "higher goes first; at most what the API key allows", -1000, 1000},
      {"speculate", FieldType::Flag, "whether tokens may be drafted from what was said before; the text is the same"},
  });
  return rows;
}

void read_answer_fields(const Service& service, const Fields& fields, AnswerRequest& request) {
  engine::SamplingOptions& sampling = request.sampling = service.sampling;
  const auto number = [&](const char* name, float& option) {
    if (const auto value = fields.number(name)) option = static_cast<float>(*value);
  };
  number("temperature", sampling.temperature);
  number("top_p", sampling.top_p);
  if (sampling.top_p == 0) sampling.top_p = std::numeric_limits<float>::min();  // the likeliest alone
  number("min_p", sampling.min_p);
  number("presence_penalty", sampling.presence_penalty);
  number("frequency_penalty", sampling.frequency_penalty);
  number("repeat_penalty", sampling.repetition_penalty);
  number("repetition_penalty", sampling.repetition_penalty);
  if (const auto top_k = fields.integer("top_k")) sampling.top_k = static_cast<int>(std::max<int64_t>(*top_k, 0));
  const auto seed = fields.integer("seed");
  sampling.seed = seed && *seed != -1 ? static_cast<uint64_t>(*seed) : service.seed.value_or(std::random_device()());
  read_logit_bias(service, fields, request);
  add_stop_strings(fields, "stop", request);
  read_router(service, fields, request);
  if (const auto grammar = fields.text("grammar"); grammar && !grammar->empty()) {
    request.rule = OutputRule{.kind = OutputRule::Kind::Grammar, .grammar = *grammar, .field = "grammar"};
  }
  if (const OrderedJson* schema = fields.any("json_schema")) add_schema(fields, "json_schema", *schema, request);
  request.ignore_ends = fields.flag("ignore_eos").value_or(false);
  request.priority = static_cast<int>(fields.integer("priority").value_or(0));
  request.speculate = fields.flag("speculate").value_or(true);
}

void add_stop_strings(const Fields& fields, const char* name, AnswerRequest& request) {
  for (std::string& stop : fields.texts(name)) {
    if (stop.empty()) fields.wrong(name, "must not have an empty string");
    if (stop.size() > kLongestStop) fields.wrong(name, fmt::format("must have strings of at most {} bytes", kLongestStop));
    request.stop.push_back(std::move(stop));
    if (request.stop.size() > kMostStops) fields.wrong(name, fmt::format("must have at most {} strings", kMostStops));
  }
}

void read_response_format(const Fields& fields, const char* name, const OrderedJson& format, AnswerRequest& request) {
  const Fields chosen(format, format_fields(), fields.param(name));
  const std::string type = chosen.need_text("type");
  if (type == "text") return;
  if (type != "json_object" && type != "json_schema") {
    chosen.wrong("type", fmt::format("must be text, json_object or json_schema, found \"{}\"", type.substr(0, 60)));
  }
  const OrderedJson* outer = chosen.object("json_schema");
  const OrderedJson* schema = nullptr;
  if (outer != nullptr) {
    const auto found = outer->find("schema");
    if (found == outer->end()) chosen.wrong("json_schema", "must have a schema");
    schema = &*found;
  } else {
    schema = chosen.any("schema");
  }
  if (type == "json_schema" && schema == nullptr) chosen.wrong("json_schema", "is missing");
  if (schema != nullptr && !schema->is_object() && !schema->is_boolean()) chosen.wrong("json_schema", "must have an object for a schema");
  if (request.rule) fields.wrong(name, fmt::format("and '{}' can't both be given", request.rule->field));
  request.rule = OutputRule{.kind = schema != nullptr ? OutputRule::Kind::Schema : OutputRule::Kind::Object, .field = fields.param(name)};
  if (schema != nullptr) request.rule->schema = *schema;
}

}  // namespace moiety::server
