#include "server/api.h"

#include <ctime>

#include "server/admission.h"
#include "server/constraints.h"
#include "server/openapi.h"
#include "server/protocols.h"
#include "server/response_store.h"
#include "server/workers.h"

namespace moiety::server {
namespace {

struct Answering {
  Endpoint endpoint;
  Task<> (*answer)(Service&, Exchange&);
  bool has_short_path = false;  // there without /v1, too
};

constexpr Answering kAnswering[] = {
    {{"POST", "/v1/chat/completions", "answers a conversation", chat_fields, true}, chat_completions, true},
    {{"POST", "/v1/completions", "continues a text", completion_fields, true}, completions, true},
    {{"POST", "/completion", "continues a text, in llama.cpp's words", llama_completion_fields, true}, llama_completion},
    {{"POST", "/v1/responses", "answers a conversation, and remembers it", response_fields, true}, responses, true},
    {{"GET", "/v1/responses/*", "a response that is remembered"}, fetch_response},
    {{"DELETE", "/v1/responses/*", "forgets a response"}, delete_response},
    {{"POST", "/v1/chat/completions/input_tokens", "the tokens of a conversation", chat_fields}, count_chat_tokens, true},
    {{"POST", "/v1/responses/input_tokens", "the tokens of a conversation", response_fields}, count_response_tokens, true},
    {{"POST", "/v1/messages", "answers a conversation, in Anthropic's words", message_fields, true}, messages},
    {{"POST", "/v1/messages/count_tokens", "the tokens of a conversation", message_fields}, count_message_tokens},
    {{"POST", "/v1/embeddings", "texts as vectors of length 1", embedding_fields}, embeddings, true},
    {{"GET", "/v1/models", "what is served here"}, list_models, true},
    {{"GET", "/v1/models/*", "one model"}, describe_model, true},
    {{"GET", "/props", "what is served here, in llama.cpp's words"}, llama_props},
    {{"GET", "/slots", "the sequences that there is room for, in llama.cpp's words"}, llama_slots},
    {{"POST", "/tokenize", "a text's tokens", tokenize_fields}, tokenize},
    {{"POST", "/detokenize", "the text of tokens", detokenize_fields}, detokenize},
    {{"POST", "/apply-template", "the text of a prompt, as the model sees a conversation", chat_fields}, apply_template},
};
constexpr std::string_view kVersion = "/v1";
constexpr Endpoint kOpenapi = {"GET", "/openapi.json", "this description"};

Handler openapi_handler() {
  std::vector<Endpoint> endpoints;
  for (const Answering& row : kAnswering) endpoints.push_back(row.endpoint);
  endpoints.push_back(kOpenapi);
  return [text = openapi_json(endpoints)](Exchange& exchange) -> Task<> { co_await exchange.answer(200, "application/json", text); };
}

}  // namespace

std::vector<Route> api_routes(Service& service) {
  if (!service.constrain) service.constrain = grammar_constraints(service.tokenizer);
  if (!service.admission) {
    service.admission = std::make_shared<Admission>(service.engine.options().max_running + service.limits.max_queue);
  }
  if (!service.responses) {
    service.responses = std::make_shared<ResponseStore>(service.limits.stored_responses, service.limits.stored_bytes);
  }
  if (!service.workers) service.workers = std::make_shared<boost::asio::thread_pool>(2);
  if (!service.time) service.time = [] { return static_cast<int64_t>(std::time(nullptr)); };
  std::vector<Route> routes;
  for (const Answering& row : kAnswering) {
    const auto handler = [&service, answer = row.answer](Exchange& exchange) { return answer(service, exchange); };
    routes.push_back({row.endpoint.method, row.endpoint.path, handler});
    // Many a client is given an address that lacks the /v1.
    if (row.has_short_path) routes.push_back({row.endpoint.method, row.endpoint.path + kVersion.size(), handler});
  }
  routes.push_back({kOpenapi.method, kOpenapi.path, openapi_handler()});
  return routes;
}

}  // namespace moiety::server
