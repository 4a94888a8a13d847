// Tokens drafted from what was said before (prompt lookup: Saxena 2023; "assisted generation" without a second model), to be
// checked all in one step. The text is the same with or without: a drafted token counts only if it is what would have been
// sampled. Whether it pays is watched, for in an MoE model each token more in a step may visit experts of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace moiety::engine {

// What may follow one sequence's tokens: what followed the last few of them the last time they came.
class Drafter {
 public:
  // At most `most` tokens that may come after `tokens`, which begin with those of the last call.
  std::vector<int32_t> draft(std::span<const int32_t> tokens, size_t most);
  // Of so many drafted tokens so many came.
  void learn(size_t drafted, size_t accepted);
  // The chance that a drafted token comes, if those before it have, as far as is known.
  double chance() const { return chance_; }

 private:
  std::unordered_map<uint64_t, uint32_t> next_;  // of the last kGram tokens, hashed: where what followed them begins
  size_t known_ = 0;                             // tokens in it
  double chance_ = 0.7;
};

// What a step takes by how many tokens it has, measured, and how many drafted tokens are worth their time.
class SpeculationWatch {
 public:
  // A step of nothing but so many tokens that answers wanted, drafted ones among them.
  void saw(size_t tokens, double seconds);
  // How many tokens to draft for one sequence with this chance each, in a step that has `tokens` without them: 0 where that
  // would not be faster. Now and then one is tried all the same.
  size_t worth(size_t tokens, double chance);

 private:
  // Seconds = base_ + slope_ * tokens, a line through what was seen, the past fading.
  double weight_ = 0, tokens_ = 0, seconds_ = 0, tokens_squared_ = 0, tokens_seconds_ = 0;
  size_t refusals_ = 0;
};

}  // namespace moiety::engine
