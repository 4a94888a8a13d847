// Runs an automaton over bytes. What a text may go on with is a set of stacks of open calls; each set that occurs gets a number,
// and where a byte leads from it is computed once and looked up from then on, as in a lazily built deterministic automaton.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"

namespace moiety::grammar {

// Not for several threads at a time.
class Matcher {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // no text goes on from here

  explicit Matcher(std::shared_ptr<const Automaton> automaton);

  State start() const { return start_; }
  // Where the byte leads. Throws Error(Input) when the grammar is too ambiguous or the work allowed is used up.
  State step(State from, uint8_t byte) {
    const int32_t known = next_[from * classes_ + automaton_->class_of[byte]];
    return known >= 0 ? static_cast<State>(known) : find_step(from, byte);
  }
  // Whether the text may be over.
  bool may_end(State state) const { return may_end_[state]; }

  // Steps that are not known yet cost some units of about 50 ns; they fail when these are used up. Unlimited at first.
  void allow_work(uint64_t units) { work_left_ = units; }
  uint64_t work_left() const { return work_left_; }

  // Whether so much is remembered that most of it should be forgotten.
  bool is_large() const;
  // Forgets all states but these, which get new numbers, and the start.
  void forget_all_but(const std::vector<State*>& states);

 private:
  // The stack of calls: the state that goes on when the call above returns, and those below.
  struct Frame {
    uint32_t state, count;  // of a counter: how often its item was called
    uint32_t below;
    uint32_t depth;  // frames below
  };
  struct Key {
    uint32_t state, count, below;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      uint64_t hash = key.state * 0x9e3779b97f4a7c15u;
      hash = (hash ^ (hash >> 32) ^ key.below) * 0xd6e8feb86659fd93u;
      return (hash ^ (hash >> 32) ^ key.count) * 0x9e3779b97f4a7c15u >> 7;
    }
  };
  // Sorted numbers of frames; a string for the sake of its hash.
  using Frames = std::u32string;

  static constexpr size_t kManyFrames = 100'000, kManySteps = 1'000'000;
  static constexpr uint32_t kBottom = 0;  // of all stacks: the text is over

  uint32_t frame(uint32_t state, uint32_t count, uint32_t below);
  uint32_t copy_frame(const std::vector<Frame>& frames, uint32_t frame, std::unordered_map<uint32_t, uint32_t>& copies);
  void use_work(uint64_t units);
  bool fits(uint32_t state, uint32_t below) const;
  void push(uint32_t frame);
  void push_state(uint32_t state, uint32_t count, uint32_t below);
  State close();
  State number_of(Frames frames);
  State find_step(State from, uint8_t byte);
  void clear();

  std::shared_ptr<const Automaton> automaton_;
  size_t classes_;
  uint64_t work_left_ = UINT64_MAX;
  State start_ = kDead;
  size_t many_frames_ = kManyFrames, many_steps_ = kManySteps;  // more of them are large

  std::vector<Frame> frames_;
  std::unordered_map<Key, uint32_t, KeyHash> frame_numbers_;
  std::unordered_map<Frames, State> numbers_;
  std::vector<const Frames*> states_;  // keys of numbers_
  std::vector<bool> may_end_;
  std::vector<int32_t> next_;  // [states][classes]; -1: not known yet

  // Of the step being found: frames to be looked at and all that were, frames that read.
  std::vector<uint32_t> todo_;
  std::vector<uint32_t> seen_;  // [frames]: the last step that saw it
  uint32_t step_number_ = 0;
  Frames reading_;
};

}  // namespace moiety::grammar
