#include "engine/turn.h"

namespace moiety::engine {

size_t Turn::logits() const {
  if (sequence->request.kind == Request::Kind::Embed) return 0;
  if (wants_prompt_logprobs()) return tokens;
  return is_rest ? 1 + drafted.size() : 0;
}

StepResult run_step(model::Transformer& transformer, std::span<const Turn> turns, trace::TraceRecorder* trace,
                    const model::RoutingObserver& observe) {
  StepResult result;
  result.turns.resize(turns.size());
  std::vector<std::vector<int32_t>> tokens_of(turns.size());
  std::vector<model::Chunk> chunks;
  std::vector<trace::Part> parts;
  for (size_t i = 0; i < turns.size(); ++i) {
    Sequence& s = *turns[i].sequence;
    const auto next = std::span(s.tokens).subspan(s.computed(), turns[i].tokens);
    tokens_of[i].assign(next.begin(), next.end());
    tokens_of[i].insert(tokens_of[i].end(), turns[i].drafted.begin(), turns[i].drafted.end());
    const bool embeds = s.request.kind == Request::Kind::Embed;
    chunks.push_back({&*s.cache, tokens_of[i], turns[i].logits(), s.request.router.get(), embeds ? &result.turns[i].states_TD : nullptr});
    parts.push_back({s.trace_number, s.computed(), static_cast<int>(tokens_of[i].size())});
  }
  if (trace != nullptr) trace->begin(std::move(parts));
  result.logits_RV = transformer.forward(chunks, [&](int layer, const moe::Routing& routing) {
    if (trace != nullptr) trace->add(layer, routing);
    observe(layer, routing);
  });
  if (trace != nullptr) trace->end();
  size_t row = 0;
  for (size_t i = 0; i < turns.size(); ++i) {
    result.turns[i].logits_RV = std::as_const(result.logits_RV).view().middle_rows(row, chunks[i].logits);
    row += chunks[i].logits;
  }
  return result;
}

}  // namespace moiety::engine
