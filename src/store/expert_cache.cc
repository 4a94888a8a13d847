#include "store/expert_cache.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace moiety::store {
namespace {

constexpr size_t kNone = SIZE_MAX;
// Auto replays what it has seen when so many tokens have passed, four times as many, and so on; then it stays.
constexpr uint64_t kFirstChoice = 32, kLastChoice = 2048;
// It replays the last visits alone where all would take long: as many as ask for this many scores, a tenth of a second or so.
constexpr size_t kMostScores = size_t{1} << 23;

}  // namespace

ExpertCache::ExpertCache(std::span<const size_t> experts_L, const Options& options)
    : options_(options),
      policy_(options.policy == CachePolicy::Auto ? CachePolicy::Blend : options.policy),
      slots_(options.slots),
      tokens_L_(experts_L.size()),
      next_choice_(options.policy == CachePolicy::Auto ? kFirstChoice : 0) {
  for (const size_t experts : experts_L) {
    slot_of_LE_.emplace_back(experts, kNone);
    uses_LE_.emplace_back(experts);
    pinned_LE_.emplace_back(experts, false);
  }
  for (size_t i = options.slots; i-- > 0;) free_.push_back(i);
  for (const ExpertId id : std::span(options_.pinned).first(std::min(options_.pinned.size(), options.slots))) {
    pinned_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)] = true;
  }
}

std::optional<size_t> ExpertCache::slot_of(ExpertId id) const {
  const size_t slot = slot_of_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)];
  return slot == kNone ? std::nullopt : std::optional(slot);
}

const ExpertUse& ExpertCache::use_of(ExpertId id) const { return uses_LE_[static_cast<size_t>(id.layer)][use_number(id)]; }

size_t ExpertCache::use_number(ExpertId id) const {
  const size_t e = static_cast<size_t>(id.expert), experts = uses_LE_[static_cast<size_t>(id.layer)].size();
  return options_.has_low ? e % (experts / 2) : e;
}

double ExpertCache::score(ExpertId id) const {
  const size_t l = static_cast<size_t>(id.layer), layers = tokens_L_.size();
  if (pinned_LE_[l][static_cast<size_t>(id.expert)]) return std::numeric_limits<double>::infinity();
  return keep_score(policy_, use_of(id), tokens_L_[l], (l + layers - layer_ - 1) % layers, layers);
}

ExpertCache::Visit ExpertCache::visit(int layer, std::span<const Demand> demands, size_t tokens, const NextUse& next_of) {
  layer_ = static_cast<size_t>(layer);
  ++visits_;
  tokens_L_[layer_] += tokens;
  Visit visit;
  for (const Demand& demand : demands) {
    const size_t e = static_cast<size_t>(demand.expert);
    ExpertUse& expert = uses_LE_[layer_][use_number({layer, demand.expert})];
    use(expert, demand, tokens, visits_, tokens_L_[layer_]);
    if (next_of) expert.next = next_of(demand.expert);
    if (slot_of_LE_[layer_][e] != kNone) visit.here.push_back(demand.expert);
    else visit.missing.push_back({demand.expert, {}, {}});
  }
  if (options_.has_low) replace_low(layer, visit.missing);
  give_slots(layer, visit.missing);
  if (next_choice_ > 0) choose_policy(layer, demands, tokens);
  return visit;
}

// The best of those that are there and those that come have the slots afterwards.
void ExpertCache::give_slots(int layer, std::vector<Miss>& missing) {
  struct Candidate {
    double score;
    size_t of;  // number of a slot, or of a miss
  };
  std::vector<Candidate> coming;
  std::vector<size_t> given;  // in this visit
  for (size_t m = 0; m < missing.size(); ++m) {
    if (missing[m].slot) given.push_back(*missing[m].slot);
    else coming.push_back({score({layer, missing[m].expert}), m});
  }
  std::ranges::stable_sort(coming, std::greater(), &Candidate::score);

  std::vector<Candidate> there;
  if (coming.size() > free_.size()) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i] && std::ranges::find(given, i) == given.end()) there.push_back({score(*slots_[i]), i});
    }
    const size_t wanted = std::min(there.size(), coming.size() - free_.size());
    const auto worse = [](const Candidate& a, const Candidate& b) { return std::pair(a.score, a.of) < std::pair(b.score, b.of); };
    std::partial_sort(there.begin(), there.begin() + static_cast<std::ptrdiff_t>(wanted), there.end(), worse);
    there.resize(wanted);
  }

  size_t next = 0;
  for (const Candidate& newcomer : coming) {
    if (!free_.empty()) {
      give_slot(layer, missing[newcomer.of], free_.back());
      free_.pop_back();
    } else if (next < there.size() && newcomer.score >= there[next].score) {
      give_slot(layer, missing[newcomer.of], there[next++].of);
    } else {
      break;  // those that follow are worth less still
    }
  }
}

// Whoever has it leaves.
void ExpertCache::give_slot(int layer, Miss& miss, size_t slot) {
  miss.slot = slot;
  miss.leaves = slots_[slot];
  if (miss.leaves) slot_of_LE_[static_cast<size_t>(miss.leaves->layer)][static_cast<size_t>(miss.leaves->expert)] = kNone;
  slots_[slot] = ExpertId{layer, miss.expert};
  slot_of_LE_[static_cast<size_t>(layer)][static_cast<size_t>(miss.expert)] = slot;
}

std::optional<ExpertId> ExpertCache::low_copy_of(ExpertId id) const {
  const size_t experts = uses_LE_[static_cast<size_t>(id.layer)].size() / 2;
  if (!options_.has_low || static_cast<size_t>(id.expert) >= experts) return std::nullopt;
  return ExpertId{id.layer, id.expert + static_cast<int>(experts)};
}

// Experts whose copies of low precision are there have the slots of those.
void ExpertCache::replace_low(int layer, std::vector<Miss>& missing) {
  for (Miss& miss : missing) {
    const auto low = low_copy_of({layer, miss.expert});
    const auto slot = low ? slot_of(*low) : std::nullopt;
    if (!slot) continue;
    give_slot(layer, miss, *slot);
    miss.replaces_low = true;
  }
}

void ExpertCache::lose(ExpertId id) {
  size_t& slot = slot_of_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)];
  if (slot == kNone) return;
  slots_[slot].reset();
  free_.push_back(slot);
  slot = kNone;
}

std::vector<ExpertCache::Gone> ExpertCache::use_slots(size_t count) {
  for (; slots() < count && !closed_.empty(); closed_.pop_back()) free_.push_back(closed_.back());
  for (; slots() > count && !free_.empty(); free_.pop_back()) closed_.push_back(free_.back());
  std::vector<std::pair<double, size_t>> there;
  if (slots() > count) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i]) there.emplace_back(score(*slots_[i]), i);
    }
    std::ranges::sort(there);
  }
  std::vector<Gone> gone;
  for (size_t next = 0; slots() > count; ++next) {
    const size_t slot = there[next].second;
    gone.push_back({*slots_[slot], slot});
    slot_of_LE_[static_cast<size_t>(slots_[slot]->layer)][static_cast<size_t>(slots_[slot]->expert)] = kNone;
    slots_[slot].reset();
    closed_.push_back(slot);
  }
  return gone;
}

// What each policy would have found in memory so far; the one that would have missed least is in force from now on.
void ExpertCache::choose_policy(int layer, std::span<const Demand> demands, size_t tokens) {
  if (past_.size() * slots_.size() >= kMostScores) past_.pop_front();
  past_.push_back({layer, tokens, {demands.begin(), demands.end()}});
  past_tokens_ = std::max(past_tokens_, tokens_L_[layer_]);
  if (past_tokens_ < next_choice_) return;
  std::vector<size_t> experts_L;
  for (const auto& uses_E : uses_LE_) experts_L.push_back(uses_E.size());
  size_t least = SIZE_MAX;
  for (const CachePolicy candidate : kAutoChoices) {
    ExpertCache replay(experts_L, {slots(), candidate, options_.pinned, options_.has_low});
    size_t missed = 0;
    for (const PastVisit& past : past_) missed += replay.visit(past.layer, past.demands, past.tokens).missing.size();
    if (missed < least) policy_ = candidate, least = missed;
  }
  while (next_choice_ <= past_tokens_) next_choice_ *= 4;
  if (next_choice_ <= kLastChoice) return;
  next_choice_ = 0;
  past_ = {};
}

}  // namespace moiety::store
