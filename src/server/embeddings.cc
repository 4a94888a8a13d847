// Texts as vectors of length 1.
#include <openssl/evp.h>

#include <bit>
#include <cmath>

#include "server/answering.h"
#include "server/conversation.h"
#include "server/prompt_field.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

// Cut after its first numbers, then of length 1.
std::vector<float> finished(std::vector<float> vector, size_t dimensions) {
  if (dimensions > 0) vector.resize(dimensions);
  double squares = 0;
  for (const float x : vector) squares += double{x} * x;
  const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  for (float& x : vector) x = static_cast<float>(x * scale);
  return vector;
}

// Little-endian f32.
std::string base64(const std::vector<float>& vector) {
  std::vector<unsigned char> bytes;
  for (const float x : vector) {
    const auto bits = std::bit_cast<uint32_t>(x);
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<unsigned char>(bits >> shift));
  }
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  text.resize(static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(), static_cast<int>(bytes.size()))));
  return text;
}

struct EmbeddingRequest {
  AnswerRequest answer;
  size_t dimensions = 0;  // 0: all
  bool as_base64 = false;
};

EmbeddingRequest read_request(const Service& service, const OrderedJson& json) {
  const Fields body(json, embedding_fields());
  check_model(service, body.text("model").value_or(""));
  const std::string format = body.text("encoding_format").value_or("float"), pooling = body.text("pooling").value_or("mean");
  if (format != "float" && format != "base64") body.wrong("encoding_format", "must be float or base64");
  if (pooling != "mean" && pooling != "last") body.wrong("pooling", "must be mean or last");
  EmbeddingRequest request{.as_base64 = format == "base64"};
  request.dimensions = static_cast<size_t>(body.integer("dimensions").value_or(0));
  const auto width = static_cast<size_t>(service.engine.spec().width);
  if (request.dimensions > width) body.wrong("dimensions", fmt::format("must be at most {}, the model's width", width));

  AnswerRequest& answer = request.answer;
  answer.embed = pooling == "last" ? engine::Request::Pooling::Last : engine::Request::Pooling::Mean;
  answer.priority = static_cast<int>(body.integer("priority").value_or(0));
  for (PlainPrompt& prompt : read_prompts(service, body, "input")) answer.prompts.push_back({std::move(prompt.tokens), {}, {}});
  return request;
}

class Embedding {
 public:
  Embedding(const Service& service, const EmbeddingRequest& request) : service_(service), request_(request) {}

  Task<> answer(Exchange& exchange, Answers& answers) {
    std::vector<Answer> all = co_await answers.all();
    OrderedJson data = OrderedJson::array();
    size_t tokens = 0;
    for (Answer& answer : all) {
      engine::Outcome& outcome = answer.ending.outcome;
      tokens += outcome.prompt_tokens;
      const std::vector<float> vector = finished(std::move(outcome.embedding_D), request_.dimensions);
      const OrderedJson embedding = request_.as_base64 ? OrderedJson(base64(vector)) : OrderedJson(vector);
      data.push_back({{"object", "embedding"}, {"index", data.size()}, {"embedding", embedding}});
    }
    const OrderedJson result = {{"object", "list"},
                                {"data", std::move(data)},
                                {"model", service_.model},
                                {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
    co_await exchange.answer(200, "application/json", to_text(result));
  }

 private:
  const Service& service_;
  const EmbeddingRequest& request_;
};

}  // namespace

FieldTable embedding_fields() {
  static const std::vector<Field> rows = {
      {"model", FieldType::Text, "the model's name; none: the one that is there"},
      {"input", FieldType::TextOrList, "a text, a list of token ids, or a list of texts or of such lists"},
      {"encoding_format", FieldType::Text, "float, or base64 of little-endian f32"},
      {"dimensions", FieldType::Integer, "only so many of the first numbers, scaled to length 1 again", 1, 1e9},
      {"pooling", FieldType::Text, "mean of the tokens (the default), or last"},
      {"priority", FieldType::Integer, "higher goes first; at most what the API key allows", -1000, 1000},
  };
  return rows;
}

Task<> embeddings(Service& service, Exchange& exchange) { return answer_by<Embedding>(service, exchange, read_request); }

}  // namespace moiety::server
