// Any bytes as the body of a request to any endpoint: refused with a status and a sentence, or answered. The first byte says which.
#include "support/api_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety::server;
  // Answers of a few tokens, drawn by the model; grammars are made, and their tokens masked.
  static test::Fixture& fixture = *[] {
    auto* made = new test::Fixture({.context = 96});
    made->service.limits = {.new_tokens = 3, .answers = 4, .stored_responses = 10};
    made->service.constrain = {};
    made->routes = api_routes(made->service);
    return made;
  }();
  if (size == 0) return 0;
  std::vector<const Route*> posts;
  for (const Route& route : fixture.routes) {
    if (route.method == "POST") posts.push_back(&route);
  }
  const Route& route = *posts[data[0] % posts.size()];
  test::Recorded exchange("POST", route.path, std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  test::run(fixture, exchange);
  if (exchange.status == 0 || exchange.status >= 500) __builtin_trap();
  return 0;
}
