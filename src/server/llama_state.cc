// What is there to generate with, in the words of llama.cpp's server (its README, "GET /props" and "GET /slots"): its clients learn
// the context's size from it.
#include "server/llama_json.h"
#include "server/protocols.h"

namespace moiety::server {

OrderedJson generation_settings_json(const Service& service, const AnswerRequest& request) {
  const engine::SamplingOptions& sampling = request.sampling;
  OrderedJson biases = OrderedJson::array();
  for (const auto& [token, bias] : sampling.logit_bias) biases.push_back({{"token", token}, {"bias", bias}});
  const size_t otherwise = service.limits.new_tokens;
  OrderedJson json = {{"n_predict", -1},
                      {"seed", sampling.seed},
                      {"temperature", sampling.temperature},
                      {"top_k", sampling.top_k},
                      {"top_p", sampling.top_p},
                      {"min_p", sampling.min_p},
                      {"repeat_penalty", sampling.repetition_penalty},
                      {"presence_penalty", sampling.presence_penalty},
                      {"frequency_penalty", sampling.frequency_penalty},
                      {"stop", request.stop},
                      {"ignore_eos", request.ignore_ends},
                      {"logit_bias", std::move(biases)},
                      {"n_probs", request.top_logprobs}};
  if (request.max_new_tokens || otherwise > 0) json["n_predict"] = request.max_new_tokens.value_or(otherwise);
  return json;
}

Task<> llama_props(Service& service, Exchange& exchange) {
  AnswerRequest usual;
  usual.sampling = service.sampling;
  OrderedJson params = generation_settings_json(service, usual);
  params["seed"] = service.seed ? OrderedJson(*service.seed) : OrderedJson(-1);
  const engine::EngineOptions& options = service.engine.options();
  OrderedJson json = {{"default_generation_settings", {{"n_ctx", options.context}, {"params", std::move(params)}}},
                      {"total_slots", options.max_running},
                      {"model_alias", service.model},
                      {"model_path", service.model},  // where its file lies is nobody's business
                      {"modalities", {{"vision", false}, {"audio", false}}},
                      {"chat_template", ""}};
  if (service.chat_template != nullptr) {
    json["chat_template"] = service.chat_template->source(false);
    for (const auto& [name, token] : service.chat_template->tokens()) json[name] = token;
  }
  co_await exchange.answer(200, "application/json", to_text(json));
}

// A slot is a place for a sequence: of ours none is another's, and as many are busy as sequences run.
Task<> llama_slots(Service& service, Exchange& exchange) {
  const size_t running = service.engine.statistics().running;
  OrderedJson slots = OrderedJson::array();
  for (size_t id = 0; id < service.engine.options().max_running; ++id) {
    slots.push_back({{"id", id}, {"n_ctx", service.engine.options().context}, {"is_processing", id < running}});
  }
  co_await exchange.answer(200, "application/json", to_text(slots));
}

}  // namespace moiety::server
