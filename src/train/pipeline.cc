#include "train/pipeline.h"

#include <algorithm>

#include "base/error.h"
#include "base/system_memory.h"

namespace moiety::train {

Pipeline::Pipeline(Transformer& model, comm::Mesh& mesh, const StageShare& share) : model_(model), mesh_(mesh), share_(share) {
  const int layers = model.spec().num_layers;
  require(share.parts() <= layers, "{} stages of {} chunks (ranks.stages, ranks.virtual) need as many layers, and the model has {}", share.stages, share.chunks,
          layers);
}

void Pipeline::train(std::span<const Pass> passes, const PassOrder& order, float share, const Passed& passed) {
  const PipelineShape shape{share_.stages, share_.chunks, static_cast<int>(passes.size())};
  // Of what a stage has sent only that is not taken whose way back has not come
  most_sent_ = static_cast<size_t>(most_in_flight(shape, 0));
  const moe::Load none(static_cast<int>(routers_of(model_.spec()).size()), model_.spec().moe.router.num_choices());
  moe::Load choices = none;  // of the step so far
  std::map<std::pair<int, int>, InFlight> in_flight;
  const size_t allocated = allocated_memory();

  const auto go_forth = [&](const PipelineStep& step, Message came) {
    const Activity::Span span(order.activity, "forward");
    const auto m = static_cast<size_t>(step.micro_batch);
    InFlight& flight = in_flight.try_emplace({step.chunk, step.micro_batch}, InFlight{{}, choices}).first->second;
    PassOrder mine = order;
    if (order.scope == BalanceScope::Global) mine.others = &flight.others;
    flight.pass = pass_on(step.chunk, passes[m].batch, std::move(came), passes[m].weights, mine);
    for (size_t router = 0; router < flight.pass.routes.size(); ++router) {
      if (const auto& saved = flight.pass.routes[router]) choices.add_choices(static_cast<int>(router), saved->plan->routing);
    }
    const Losses& losses = flight.pass.losses;
    passed(m, {losses.cross_entropy, losses.balance, losses.z, losses.entropy, losses.spread, losses.consistency, allocated_memory() - allocated,
               {{passes[m].batch, flight.pass.routes, losses.nats_T}}});
  };
  const auto go_back = [&](const PipelineStep& step, Message came) {
    const Activity::Span span(order.activity, "backward");
    auto flight = in_flight.extract({step.chunk, step.micro_batch});
    const Handed dleft = take(std::move(came));
    const Handed dcame = model_.backward(std::move(flight.mapped().pass), passes[static_cast<size_t>(step.micro_batch)].batch, dleft, share);
    if (share_.part(step.chunk) > 0) send(kBackward, share_.part(step.chunk) - 1, dcame);
  };

  const std::vector<PipelineStep> steps = pipeline_order(shape, share_.stage);
  const auto expect_of = [&](size_t i) {
    if (i == steps.size()) return Message();
    return expect(steps[i].is_backward, steps[i].chunk, passes[static_cast<size_t>(steps[i].micro_batch)].batch);
  };
  Message next = expect_of(0);
  for (size_t i = 0; i < steps.size(); ++i) {
    Message came = std::exchange(next, expect_of(i + 1));
    if (steps[i].is_backward) go_back(steps[i], std::move(came));
    else go_forth(steps[i], std::move(came));
  }
  finish_sending();
}

Losses Pipeline::forward(const Batch& batch, Routes* routes, const PassOrder& order) {
  const torch::NoGradGuard no_graph;
  Losses all;
  if (routes != nullptr) routes->assign(routers_of(model_.spec()).size(), nullptr);
  for (int chunk = 0; chunk < share_.chunks; ++chunk) {
    LayersPass pass = pass_on(chunk, batch, expect(false, chunk, batch), {}, order);
    all.cross_entropy += pass.losses.cross_entropy;
    for (size_t router = 0; routes != nullptr && router < routes->size(); ++router) {
      if (pass.routes[router]) (*routes)[router] = std::move(pass.routes[router]);
    }
  }
  return all;
}

LayersPass Pipeline::pass_on(int chunk, const Batch& batch, Message came, const LossWeights& weights, const PassOrder& order) {
  Handed handed = take(std::move(came));
  for (Tensor& tensor : handed) {
    if (tensor.defined()) tensor.set_requires_grad(torch::GradMode::is_enabled());
  }
  LayersPass pass = model_.forward(layers(chunk), batch, std::move(handed), weights, order);
  if (!is_last_part(chunk)) send(kForward, share_.part(chunk) + 1, pass.left);
  return pass;
}

// What this step needs of another rank, on its way from now on; nothing at the ends of the model.
Pipeline::Message Pipeline::expect(bool is_backward, int chunk, const Batch& batch) {
  if (is_backward ? is_last_part(chunk) : share_.part(chunk) == 0) return {};
  Message message{.widths = model_.handed_widths(is_backward ? layers(chunk).end : layers(chunk).first), .tokens = batch.num_tokens()};
  int64_t columns = 0;
  for (const int64_t width : message.widths) columns += width;
  message.numbers.resize(static_cast<size_t>(columns * message.tokens));
  const int from = rank_of(share_.part(chunk) + (is_backward ? 1 : -1));
  if (message.tokens > 0) message.pending = mesh_.all().start_receive(from, message.numbers, is_backward ? kBackward : kForward);
  return message;
}

Handed Pipeline::take(Message message) const {
  message.pending.wait();
  Handed handed;
  auto next = message.numbers.begin();
  for (const int64_t width : message.widths) {
    if (width == 0) {
      handed.emplace_back();
      continue;
    }
    const auto count = static_cast<ptrdiff_t>(message.tokens * width);
    handed.push_back(torch::empty({message.tokens, width}));
    std::copy(next, next + count, flat(handed.back()).begin());
    next += count;
  }
  return handed;
}

void Pipeline::send(Lane lane, int to_part, const Handed& handed) {
  auto message = std::make_unique<Message>();
  for (const Tensor& tensor : handed) {
    if (!tensor.defined()) continue;
    const Tensor dense = tensor.detach().contiguous();
    message->numbers.insert(message->numbers.end(), flat(dense).begin(), flat(dense).end());
  }
  if (message->numbers.empty()) return;  // no tokens: nobody expects any
  message->pending = mesh_.all().start_send(rank_of(to_part), message->numbers, lane);
  auto& sent = sent_[lane];
  sent.push_back(std::move(message));
  for (; sent.size() > most_sent_; sent.pop_front()) sent.front()->pending.wait();
}

void Pipeline::finish_sending() {
  for (auto& [lane, sent] : sent_) {
    for (; !sent.empty(); sent.pop_front()) sent.front()->pending.wait();
  }
}

}  // namespace moiety::train
