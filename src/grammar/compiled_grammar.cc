#include "grammar/compiled_grammar.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/error.h"

namespace moiety::grammar {
namespace {

constexpr size_t kMostMasks = 64;
constexpr size_t kMostGrammars = 16;
// What a request may cost, in the matcher's units of about 50 ns: so much at any time, and so much more a token.
constexpr uint64_t kMostWork = 2'000'000, kWorkPerToken = 50'000;

void apply_mask(std::span<const uint64_t> bits, std::span<float> logits) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  for (size_t word = 0; word * 64 < logits.size(); ++word) {
    uint64_t allowed = word < bits.size() ? bits[word] : 0;
    const std::span<float> part = logits.subspan(word * 64, std::min<size_t>(64, logits.size() - word * 64));
    if (std::popcount(allowed) <= 8) {
      float kept[8];
      size_t places[8], count = 0;
      for (; allowed != 0; allowed &= allowed - 1, ++count) {
        places[count] = static_cast<size_t>(std::countr_zero(allowed));
        if (places[count] >= part.size()) break;
        kept[count] = part[places[count]];
      }
      std::fill(part.begin(), part.end(), kNever);
      for (size_t i = 0; i < count; ++i) part[places[i]] = kept[i];
    } else {
      for (uint64_t never = ~allowed; never != 0; never &= never - 1) {
        const auto place = static_cast<size_t>(std::countr_zero(never));
        if (place >= part.size()) break;
        part[place] = kNever;
      }
    }
  }
}

}  // namespace

CompiledGrammar::CompiledGrammar(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)),
      matcher_(std::make_shared<const Automaton>(compile(grammar))),
      walk_(vocabulary_->depth() + 1) {}

Matcher::State CompiledGrammar::walk(Matcher::State from, int32_t token) {
  const std::string_view bytes = vocabulary_->bytes(token);
  if (bytes.empty()) return Matcher::kDead;
  for (const char byte : bytes) {
    from = matcher_.step(from, static_cast<uint8_t>(byte));
    if (from == Matcher::kDead) break;
  }
  return from;
}

CompiledGrammar::Mask CompiledGrammar::make_mask(Matcher::State state) {
  Mask mask;
  mask.bits.assign((vocabulary_->size() + 63) / 64, 0);
  const std::span<const Vocabulary::Node> nodes = vocabulary_->nodes();
  const std::span<const int32_t> tokens = vocabulary_->tokens();
  walk_[0] = state;
  for (uint32_t n = 0; n < nodes.size();) {
    const Vocabulary::Node& node = nodes[n];
    const Matcher::State to = matcher_.step(walk_[node.depth - 1], node.byte);
    if (to == Matcher::kDead) {
      n = node.end;
      continue;
    }
    walk_[node.depth] = to;
    for (uint32_t t = n == 0 ? 0 : nodes[n - 1].tokens_end; t < node.tokens_end; ++t) {
      mask.bits[static_cast<size_t>(tokens[t]) / 64] |= uint64_t{1} << (tokens[t] % 64);
      mask.is_empty = false;
    }
    ++n;
  }
  return mask;
}

const CompiledGrammar::Mask& CompiledGrammar::mask_of(Matcher::State state) {
  if (const auto known = mask_of_.find(state); known != mask_of_.end()) {
    masks_.splice(masks_.begin(), masks_, known->second);
    return masks_.front().second;
  }
  masks_.emplace_front(state, make_mask(state));
  mask_of_[state] = masks_.begin();
  if (masks_.size() > kMostMasks) {
    mask_of_.erase(masks_.back().first);
    masks_.pop_back();
  }
  return masks_.front().second;
}

void CompiledGrammar::forget_some() {
  masks_.clear();
  mask_of_.clear();
  std::vector<Matcher::State*> states;
  for (Position* position : positions_) states.push_back(&position->state_);
  matcher_.forget_all_but(states);
}

CompiledGrammar::Position::Position(std::shared_ptr<CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), work_left_(kMostWork) {
  const std::lock_guard lock(grammar_->mutex_);
  state_ = grammar_->matcher_.start();
  grammar_->positions_.insert(this);
}

CompiledGrammar::Position::~Position() {
  const std::lock_guard lock(grammar_->mutex_);
  grammar_->positions_.erase(this);
}

template <class Work>
auto CompiledGrammar::Position::within_limits(Work work) {
  const std::lock_guard lock(grammar_->mutex_);
  Matcher& matcher = grammar_->matcher_;
  if (matcher.is_large()) grammar_->forget_some();
  matcher.allow_work(work_left_);
  const auto result = work();
  work_left_ = matcher.work_left();
  return result;
}

bool CompiledGrammar::Position::allows(int32_t token) {
  return within_limits([&] { return grammar_->walk(state_, token) != Matcher::kDead; });
}

void CompiledGrammar::Position::accept(int32_t token) {
  const bool is_allowed = within_limits([&] {
    const Matcher::State to = grammar_->walk(state_, token);
    if (to != Matcher::kDead) state_ = to;
    return to != Matcher::kDead;
  });
  require(is_allowed, "grammar: token {} may not come here", token);
  work_left_ = std::min(work_left_ + kWorkPerToken, kMostWork);
}

bool CompiledGrammar::Position::may_end() const {
  const std::lock_guard lock(grammar_->mutex_);
  return grammar_->matcher_.may_end(state_);
}

bool CompiledGrammar::Position::mask(std::span<float> logits_V) {
  return within_limits([&] {
    const Mask& mask = grammar_->mask_of(state_);
    apply_mask(mask.bits, logits_V);
    return !mask.is_empty;
  });
}

std::shared_ptr<CompiledGrammar> GrammarCache::get(const std::string& key, const std::function<Grammar()>& make) {
  {
    const std::lock_guard lock(mutex_);
    for (auto it = latest_.begin(); it != latest_.end(); ++it) {
      if (it->first != key) continue;
      latest_.splice(latest_.begin(), latest_, it);
      return it->second;
    }
  }
  auto compiled = std::make_shared<CompiledGrammar>(make(), vocabulary_);
  const std::lock_guard lock(mutex_);
  latest_.emplace_front(key, compiled);
  if (latest_.size() > kMostGrammars) latest_.pop_back();
  return compiled;
}

}  // namespace moiety::grammar
