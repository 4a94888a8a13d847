// What is served here.
#include "server/conversation.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

OrderedJson model_json(const Service& service) {
  const spec::ModelSpec& spec = service.engine.spec();
  return {{"id", service.model},
          {"object", "model"},
          {"created", service.created},
          {"owned_by", "moiety"},
          {"aliases", service.other_names},
          {"meta",
           {{"family", spec.family},
            {"context", service.engine.options().context},
            {"vocabulary", spec.vocab_size},
            {"width", spec.width},
            {"layers", spec.num_layers},
            {"experts", spec.moe.router.num_experts},
            {"experts_per_token", spec.moe.router.experts_per_token},
            {"chats", service.chat_template != nullptr}}}};
}

}  // namespace

Task<> list_models(Service& service, Exchange& exchange) {
  OrderedJson list = {{"object", "list"}, {"data", OrderedJson::array()}};
  list["data"].push_back(model_json(service));
  co_await exchange.answer(200, "application/json", to_text(list));
}

Task<> describe_model(Service& service, Exchange& exchange) {
  static constexpr std::string_view kBefore = "/models/";
  const std::string& path = exchange.request().path;
  check_model(service, path.substr(path.find(kBefore) + kBefore.size()));
  co_await exchange.answer(200, "application/json", to_text(model_json(service)));
}

}  // namespace moiety::server
