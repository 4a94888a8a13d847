#include "server/api.h"

#include <ctime>

#include "server/protocols.h"

namespace moiety::server {
namespace {

using Answering = Task<> (*)(Service&, Exchange&);

// What the engine and the tokenizer refuse is the request's fault, too.
Handler handler(Service& service, Answering answer) {
  return [&service, answer](Exchange& exchange) -> Task<> {
    try {
      co_await answer(service, exchange);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::Io) throw;
      throw HttpError(400, error.what());
    }
  };
}

}  // namespace

std::vector<Route> api_routes(Service& service) {
  if (!service.time) service.time = [] { return static_cast<int64_t>(std::time(nullptr)); };
  return {
      {"POST", "/v1/chat/completions", handler(service, chat_completions)},
  };
}

}  // namespace moiety::server
