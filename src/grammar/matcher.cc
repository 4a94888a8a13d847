#include "grammar/matcher.h"

#include <algorithm>

#include "base/error.h"

namespace moiety::grammar {
namespace {

constexpr size_t kMostFramesInStep = 20'000;

}  // namespace

Matcher::Matcher(std::shared_ptr<const Automaton> automaton)
    : automaton_(std::move(automaton)), classes_(automaton_->byte_of_class.size()) {
  clear();
}

void Matcher::clear() {
  todo_.clear();
  frames_.assign(1, {Automaton::kNone, 0, kBottom, 0});
  seen_.assign(1, 0);
  frame_numbers_.clear();
  numbers_.clear();
  states_.clear();
  may_end_.clear();
  next_.clear();
  step_number_ = 1;
  number_of({});  // kDead
  std::fill(next_.begin(), next_.end(), static_cast<int32_t>(kDead));
  push_state(automaton_->start, 0, kBottom);
  start_ = close();
}

bool Matcher::is_large() const {
  return frames_.size() > many_frames_ || next_.size() > many_steps_;
}

void Matcher::use_work(uint64_t units) {
  require(units <= work_left_, "grammar: it takes too long to find what may come next");
  work_left_ -= units;
}

uint32_t Matcher::frame(uint32_t state, uint32_t count, uint32_t below) {
  const auto [entry, is_new] = frame_numbers_.try_emplace({state, count, below}, static_cast<uint32_t>(frames_.size()));
  if (is_new) {
    frames_.push_back({state, count, below, below == kBottom ? 0 : frames_[below].depth + 1});
    seen_.push_back(0);
  }
  return entry->second;
}

void Matcher::push(uint32_t frame) {
  if (seen_[frame] == step_number_) return;
  seen_[frame] = step_number_;
  require(todo_.size() < kMostFramesInStep, "grammar: too ambiguous: a text that may be read in more than {} ways",
          kMostFramesInStep);
  todo_.push_back(frame);
}

// What can't return before too many calls are open is not begun: so what is begun can always be ended.
bool Matcher::fits(uint32_t state, uint32_t below) const {
  const uint32_t needed = automaton_->states[state].calls_needed;
  const uint32_t depth = below == kBottom ? 0 : frames_[below].depth + 1;
  return needed <= kMostOpenCalls && depth + needed <= kMostOpenCalls;
}

void Matcher::push_state(uint32_t state, uint32_t count, uint32_t below) {
  if (fits(state, below)) push(frame(state, count, below));
}

// Follows all that reads nothing from what was pushed. The state of what is there then.
Matcher::State Matcher::close() {
  const Automaton& automaton = *automaton_;
  reading_.clear();
  for (size_t i = 0; i < todo_.size(); ++i) {
    if (todo_[i] == kBottom) {
      reading_.push_back(kBottom);
      continue;
    }
    const Frame top = frames_[todo_[i]];
    const Automaton::State& state = automaton.states[top.state];
    if (state.reads) reading_.push_back(todo_[i]);
    if (state.returns) push(top.below);
    for (uint32_t e = state.edges_begin; e < state.edges_end; ++e) {
      const Automaton::Edge& edge = automaton.edges[e];
      if (edge.kind == Automaton::Edge::Kind::Free) {
        push_state(edge.target, 0, top.below);
      } else if (edge.kind == Automaton::Edge::Kind::Call) {
        // A caller with nothing left to do needn't be come back to: so lists by recursion take no stack.
        const bool is_last = automaton.states[edge.target].only_returns;
        if (!fits(edge.target, top.below)) continue;
        push_state(edge.callee, 0, is_last ? top.below : frame(edge.target, 0, top.below));
      }
    }
    if (state.counter != Automaton::kNone) {
      const Automaton::Counter& counter = automaton.counters[state.counter];
      if (top.count >= counter.min) push_state(counter.next, 0, top.below);
      if (top.count < counter.max) {
        const uint32_t count = counter.max == kUnlimited ? std::min(top.count + 1, counter.min) : top.count + 1;
        push_state(counter.item, 0, frame(top.state, count, top.below));
      }
    }
  }
  use_work(1 + todo_.size());
  todo_.clear();
  ++step_number_;
  std::sort(reading_.begin(), reading_.end());
  return number_of(reading_);
}

Matcher::State Matcher::number_of(Frames frames) {
  if (const auto known = numbers_.find(frames); known != numbers_.end()) return known->second;
  use_work((classes_ + frames.size()) / 4);
  may_end_.push_back(!frames.empty() && frames[0] == kBottom);
  next_.resize(next_.size() + classes_, -1);
  const auto entry = numbers_.emplace(std::move(frames), static_cast<State>(states_.size())).first;
  states_.push_back(&entry->first);
  return entry->second;
}

Matcher::State Matcher::find_step(State from, uint8_t byte) {
  const Automaton& automaton = *automaton_;
  todo_.clear();
  ++step_number_;
  for (const uint32_t frame : *states_[from]) {
    if (frame == kBottom) continue;
    const Frame top = frames_[frame];
    const Automaton::State& state = automaton.states[top.state];
    for (uint32_t e = state.edges_begin; e < state.edges_end; ++e) {
      const Automaton::Edge& edge = automaton.edges[e];
      if (edge.kind == Automaton::Edge::Kind::Bytes && edge.first <= byte && byte <= edge.last) {
        push_state(edge.target, 0, top.below);
      }
    }
  }
  use_work(states_[from]->size());
  const State to = close();
  next_[from * classes_ + automaton.class_of[byte]] = static_cast<int32_t>(to);
  return to;
}

uint32_t Matcher::copy_frame(const std::vector<Frame>& frames, uint32_t number, std::unordered_map<uint32_t, uint32_t>& copies) {
  std::vector<uint32_t> stack;
  while (number != kBottom && !copies.contains(number)) {
    stack.push_back(number);
    number = frames[number].below;
  }
  uint32_t copy = number == kBottom ? kBottom : copies[number];
  for (; !stack.empty(); stack.pop_back()) {
    const Frame& old = frames[stack.back()];
    copy = frame(old.state, old.count, copy);
    copies[stack.back()] = copy;
  }
  return copy;
}

void Matcher::forget_all_but(const std::vector<State*>& states) {
  const std::vector<Frame> old_frames = std::move(frames_);
  std::vector<Frames> kept;
  for (const State* state : states) kept.push_back(*states_[*state]);
  work_left_ = UINT64_MAX;  // all this was paid for
  clear();
  std::unordered_map<uint32_t, uint32_t> copies;
  for (size_t i = 0; i < states.size(); ++i) {
    Frames frames;
    for (const uint32_t frame : kept[i]) frames.push_back(copy_frame(old_frames, frame, copies));
    std::sort(frames.begin(), frames.end());
    *states[i] = number_of(std::move(frames));
  }
  // What is needed by itself must not make each step forget all others.
  many_frames_ = std::max(kManyFrames, 2 * frames_.size());
  many_steps_ = std::max(kManySteps, 2 * next_.size());
}

}  // namespace moiety::grammar
