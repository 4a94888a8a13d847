// The tokenizer and the chat template by themselves, as llama.cpp's server answers them.
#include "server/chat_request.h"
#include "server/exchange.h"
#include "server/protocols.h"
#include "server/workers.h"
#include "text/utf8.h"

namespace moiety::server {
namespace {

// A piece that is no UTF-8 by itself is given as its bytes.
OrderedJson piece_json(const text::Tokenizer& tokenizer, int32_t token) {
  const std::string_view bytes = tokenizer.token_bytes(token);
  if (text::is_valid_utf8(bytes)) return bytes;
  OrderedJson list = OrderedJson::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

OrderedJson tokens_of(const Service& service, const OrderedJson& json) {
  const Fields body(json, tokenize_fields());
  const bool with_pieces = body.flag("with_pieces").value_or(false);
  OrderedJson tokens = OrderedJson::array();
  for (const int32_t token : service.tokenizer.encode(body.need_text("content"), body.flag("add_special").value_or(false))) {
    if (with_pieces) {
      tokens.push_back({{"id", token}, {"piece", piece_json(service.tokenizer, token)}});
    } else {
      tokens.push_back(token);
    }
  }
  return {{"tokens", std::move(tokens)}};
}

OrderedJson text_of(const Service& service, const OrderedJson& json) {
  const Fields body(json, detokenize_fields());
  body.need("tokens");
  std::vector<int32_t> tokens;
  for (const OrderedJson& token : *body.list("tokens")) {
    const bool right = token.is_number_integer() && token.get<int64_t>() >= 0 && token.get<int64_t>() < service.tokenizer.vocab_size();
    if (!right) body.wrong("tokens", fmt::format("must have token ids from 0 to {}, found {}", service.tokenizer.vocab_size() - 1, shown(token)));
    tokens.push_back(token.get<int32_t>());
  }
  return {{"content", service.tokenizer.decode(tokens, false)}};
}

OrderedJson prompt_of(const Service& service, const OrderedJson& json) {
  return {{"prompt", render(service, read_conversation(Fields(json, chat_fields()))).text}};
}

Task<> answer_from(OrderedJson (*make)(const Service&, const OrderedJson&), Service& service, Exchange& exchange) {
  const auto work = [&service, make, body = exchange.request().body] { return to_text(make(service, parse_body(body))); };
  std::string text = co_await done_by(*service.workers, work);
  co_await exchange.answer(200, "application/json", std::move(text));
}

}  // namespace

FieldTable tokenize_fields() {
  static const std::vector<Field> rows = {
      {"content", FieldType::Text, "the text"},
      {"add_special", FieldType::Flag, "with the tokens that the tokenizer puts around texts; false if it isn't there"},
      {"with_pieces", FieldType::Flag, "each token with its text"},
  };
  return rows;
}

FieldTable detokenize_fields() {
  static const std::vector<Field> rows = {{"tokens", FieldType::List, "token ids"}};
  return rows;
}

Task<> tokenize(Service& service, Exchange& exchange) { co_await answer_from(tokens_of, service, exchange); }
Task<> detokenize(Service& service, Exchange& exchange) { co_await answer_from(text_of, service, exchange); }
Task<> apply_template(Service& service, Exchange& exchange) { co_await answer_from(prompt_of, service, exchange); }

}  // namespace moiety::server
