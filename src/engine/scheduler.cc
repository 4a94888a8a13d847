#include "engine/scheduler.h"

#include <algorithm>
#include <limits>

namespace moiety::engine {
namespace {

// A prompt chunk of at least so many tokens, or its rest, is worth a place in a step.
constexpr size_t kLeastChunk = 16;
// A sequence waits for another one's prompt if it has so many more tokens in common with it than are known.
constexpr size_t kWorthWaiting = 32;

}  // namespace

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  const std::string& client = sequence->request.client;
  if (!served_.contains(client)) {
    // Who was away has no claim to what others were served meanwhile.
    double least = std::numeric_limits<double>::infinity();
    for (const auto& [name, tokens] : served_) least = std::min(least, tokens);
    served_[client] = served_.empty() ? 0 : least;
  }
  waiting_.push_back(std::move(sequence));
}

Sequence* Scheduler::find(uint64_t id) const {
  for (const auto* list : {&running_, &waiting_}) {
    for (const auto& sequence : *list) {
      if (sequence->id == id) return sequence.get();
    }
  }
  return nullptr;
}

std::unique_ptr<Sequence> Scheduler::remove(uint64_t id) {
  std::unique_ptr<Sequence> found;
  for (auto* list : {&running_, &waiting_}) {
    const auto at = std::ranges::find(*list, id, [](const auto& s) { return s->id; });
    if (at == list->end()) continue;
    found = std::move(*at);
    list->erase(at);
  }
  if (!found) return found;
  const auto is_same = [&](const auto& s) { return s->request.client == found->request.client; };
  if (std::ranges::none_of(running_, is_same) && std::ranges::none_of(waiting_, is_same)) served_.erase(found->request.client);
  return found;
}

std::vector<Turn> Scheduler::next(SpeculationWatch& watch) {
  std::vector<Turn> turns;
  size_t answering = 0;
  for (const auto& sequence : running_) answering += sequence->is_decoding();

  std::vector<Sequence*> all;  // some of them may be put aside for others, and have no cache from then on
  for (const auto& sequence : running_) all.push_back(sequence.get());

  for (Sequence* sequence : all) {
    if (!sequence->cache || !sequence->is_decoding()) continue;
    Turn turn{sequence, 1, true, draft(*sequence, answering, watch)};
    if (make_room(*sequence, 1 + turn.drafted.size(), turns)) turns.push_back(std::move(turn));
  }
  size_t used = 0;
  for (const Turn& turn : turns) used += turn.tokens + turn.drafted.size();
  size_t left = options_.step_tokens - std::min(options_.step_tokens, used);
  for (Sequence* sequence : all) {
    if (!sequence->cache || sequence->is_decoding() || left < kLeastChunk) continue;
    const size_t tokens = std::min(left, sequence->left());
    if (!make_room(*sequence, tokens, turns)) continue;
    turns.push_back({sequence, tokens, tokens == sequence->left(), {}});
    left -= tokens;
  }
  while (left >= kLeastChunk && running_.size() < options_.max_running) {
    Sequence* sequence = begin_next();
    if (sequence == nullptr) break;
    const size_t tokens = std::min(left, sequence->left());
    turns.push_back({sequence, tokens, tokens == sequence->left(), {}});
    left -= tokens;
  }
  return turns;
}

std::vector<int32_t> Scheduler::draft(Sequence& sequence, size_t answering, SpeculationWatch& watch) const {
  const size_t wanted = sequence.request.max_new_tokens - sequence.said().size();
  if (!options_.speculate || !sequence.request.speculate || wanted < 2) return {};
  const size_t most = std::min(wanted - 1, sequence.cache->capacity() - sequence.tokens.size());
  return sequence.drafter.draft(sequence.tokens, std::min(most, watch.worth(answering, sequence.drafter.chance())));
}

// False if the sequence itself had to be put aside.
bool Scheduler::make_room(Sequence& sequence, size_t tokens, std::vector<Turn>& turns) {
  while (!room_.grow(sequence, tokens)) {
    const auto last = std::ranges::min_element(running_, [](const auto& a, const auto& b) {
      return std::pair(a->request.priority, b->id) < std::pair(b->request.priority, a->id);
    });
    const bool is_itself = last->get() == &sequence;
    put_aside(**last, turns);
    if (is_itself) return false;
  }
  return true;
}

void Scheduler::put_aside(Sequence& sequence, std::vector<Turn>& turns) {
  std::erase_if(turns, [&](const Turn& turn) { return turn.sequence == &sequence; });
  room_.put_aside(sequence);
  sequence.state_sum_D.clear();
  sequence.prompt_logprobs.clear();
  const auto at = std::ranges::find(running_, &sequence, [](const auto& s) { return s.get(); });
  waiting_.insert(waiting_.begin(), std::move(*at));
  running_.erase(at);
  ++preemptions_;
}

// The next of those that wait, with a cache; nullptr if none can begin.
Sequence* Scheduler::begin_next() {
  const auto rank = [&](const Sequence& s) {
    return std::tuple(-s.request.priority, !s.has_started, served_.at(s.request.client), s.id);
  };
  std::vector<size_t> order(waiting_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](size_t i) { return rank(*waiting_[i]); });
  for (const size_t i : order) {
    if (worth_waiting(*waiting_[i])) continue;
    if (!room_.admit(*waiting_[i], running_)) return nullptr;
    running_.push_back(std::move(waiting_[i]));
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    running_.back()->has_started = true;
    return running_.back().get();
  }
  return nullptr;
}

// Whether what it would compute now is being computed for another.
bool Scheduler::worth_waiting(const Sequence& sequence) const {
  size_t coming = 0;
  for (const auto& other : running_) {
    const size_t common = room_.shareable(sequence, *other);
    if (common > other->computed()) coming = std::max(coming, common);
  }
  return coming > kWorthWaiting && coming > room_.known(sequence, running_) + kWorthWaiting;
}

}  // namespace moiety::engine
