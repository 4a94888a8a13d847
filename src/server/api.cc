#include "server/api.h"

#include <ctime>

#include "server/openapi.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

struct Answering {
  Endpoint endpoint;
  Task<> (*answer)(Service&, Exchange&);
};

constexpr Answering kAnswering[] = {
    {{"POST", "/v1/chat/completions", "answers a conversation", chat_fields, true}, chat_completions},
    {{"POST", "/v1/completions", "continues a text", completion_fields, true}, completions},
    {{"POST", "/v1/embeddings", "texts as vectors of length 1", embedding_fields}, embeddings},
    {{"GET", "/v1/models", "what is served here"}, list_models},
    {{"GET", "/v1/models/*", "one model"}, describe_model},
    {{"POST", "/tokenize", "a text's tokens", tokenize_fields}, tokenize},
    {{"POST", "/detokenize", "the text of tokens", detokenize_fields}, detokenize},
    {{"POST", "/apply-template", "the text of a prompt, as the model sees a conversation", chat_fields}, apply_template},
};
constexpr Endpoint kOpenapi = {"GET", "/openapi.json", "this description"};

// What the engine and the tokenizer refuse is the request's fault, too.
Handler handler(Service& service, const Answering& row) {
  return [&service, answer = row.answer](Exchange& exchange) -> Task<> {
    try {
      co_await answer(service, exchange);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::Io) throw;
      throw HttpError(400, error.what());
    }
  };
}

Handler openapi_handler() {
  std::vector<Endpoint> endpoints;
  for (const Answering& row : kAnswering) endpoints.push_back(row.endpoint);
  endpoints.push_back(kOpenapi);
  return [text = openapi_json(endpoints)](Exchange& exchange) -> Task<> { co_await exchange.answer(200, "application/json", text); };
}

}  // namespace

std::vector<Route> api_routes(Service& service) {
  if (!service.time) service.time = [] { return static_cast<int64_t>(std::time(nullptr)); };
  std::vector<Route> routes;
  for (const Answering& row : kAnswering) routes.push_back({row.endpoint.method, row.endpoint.path, handler(service, row)});
  routes.push_back({kOpenapi.method, kOpenapi.path, openapi_handler()});
  return routes;
}

}  // namespace moiety::server
