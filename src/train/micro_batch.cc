#include "train/micro_batch.h"

#include <algorithm>

#include "base/error.h"
#include "base/system_memory.h"

namespace moiety::train {
namespace {

// How many sequences surely fit, whatever their routers want.
size_t sequences_that_fit(const Transformer& model, const Batch& batch, const PassOrder& order) {
  int64_t tokens = batch.num_tokens();
  for (int layer = 0; layer < model.spec().num_layers; ++layer) {
    if (model.spec().feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Dense) continue;
    const spec::RouterRule rule = order.rule(model.spec(), layer);
    tokens = std::min(tokens, moe::tokens_that_fit(order.budget, rule.num_experts, rule.most_experts()));
  }
  const size_t sequence = batch.sequence > 0 ? batch.sequence : static_cast<size_t>(batch.num_tokens());
  require(tokens >= static_cast<int64_t>(sequence), "a sequence of {} tokens may not fit a receive budget of {} rows for each of {} sets of experts",
          sequence, order.budget.rows, order.budget.sets);
  return static_cast<size_t>(tokens) / sequence;
}

void add_visits(const Plans& plans, moe::Load& load) {
  for (size_t layer = 0; layer < plans.size(); ++layer) load.add_choices(static_cast<int>(layer), plans[layer]->routing);
}

Losses forward(Transformer& model, TrainedPass& pass, const LossWeights& weights, const PassOrder& order) {
  const Activity::Span span(order.activity, "forward");
  return model.forward(pass.batch, weights, &pass.routes, order);
}

void backward(const Losses& losses, float share, const PassOrder& order) {
  const Activity::Span span(order.activity, "backward");
  (losses.total * share).backward();
}

TrainedMicroBatch train_in_pieces(Transformer& model, const Batch& whole, const LossWeights& weights, PassOrder order, float share) {
  const std::vector<Batch> pieces = pieces_of(whole, sequences_that_fit(model, whole, order));
  order.budget = {};

  // Decide
  std::vector<Plans> plans;
  for (const Batch& piece : pieces) {
    plans.push_back({});
    for (const auto& saved : model.decide(piece, order)) plans.back().push_back(saved->plan);
  }

  // Learn
  const moe::Load none(static_cast<int>(routers_of(model.spec()).size()), model.spec().moe.router.num_choices());
  const moe::Load before = order.others != nullptr ? *order.others : none;
  const auto share_of = [](auto part, auto all) { return static_cast<float>(part) / static_cast<float>(std::max<decltype(all)>(1, all)); };
  TrainedMicroBatch result;
  for (size_t i = 0; i < pieces.size(); ++i) {
    moe::Load others = before;
    for (size_t other = 0; other < pieces.size(); ++other) {
      if (other != i) add_visits(plans[other], others);
    }
    order.others = &others;
    order.decided = &plans[i];
    const float targets = share_of(pieces[i].num_targets(), whole.num_targets()), tokens = share_of(pieces[i].num_tokens(), whole.num_tokens());
    TrainedPass pass{pieces[i], {}, {}};
    const size_t allocated = allocated_memory();
    Losses losses = forward(model, pass, weights.of_part(tokens, targets), order);
    result.activation_bytes = allocated_memory() - allocated;
    backward(losses, share, order);
    pass.nats_T = std::move(losses.nats_T);
    result.cross_entropy += targets * losses.cross_entropy;
    result.balance += tokens * losses.balance;
    result.z += tokens * losses.z;
    result.entropy += tokens * losses.entropy;
    result.passes.push_back(std::move(pass));
  }
  return result;
}

}  // namespace

TrainedMicroBatch train_micro_batch(Transformer& model, const Batch& batch, const LossWeights& weights, const PassOrder& order,
                                    float share) {
  TrainedPass pass{batch, {}, {}};
  {
    const size_t before = allocated_memory();
    Losses losses = forward(model, pass, weights, order);
    if (!losses.overflowed) {
      TrainedMicroBatch result{losses.cross_entropy, losses.balance, losses.z, losses.entropy, losses.spread, losses.consistency, allocated_memory() - before, {}};
      backward(losses, share, order);
      pass.nats_T = std::move(losses.nats_T);
      result.passes.push_back(std::move(pass));
      return result;
    }
  }
  pass.routes.clear();
  return train_in_pieces(model, batch, weights, order, share);
}

std::vector<Batch> pieces_of(const Batch& batch, size_t sequences) {
  std::vector<Batch> pieces;
  for (size_t first = 0; first < batch.num_sequences(); first += sequences) pieces.push_back(batch.sequences(first, sequences));
  return pieces;
}

}  // namespace moiety::train
