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
// A step of so many tokens visits most experts of each layer.
constexpr size_t kWave = 64;
constexpr int kAllLayers = std::numeric_limits<int>::max();

}  // namespace

ExpertCache::ExpertCache(std::span<const size_t> experts_L, const Options& options)
    : options_(options),
      policy_(options.policy == CachePolicy::Auto ? CachePolicy::Blend : options.policy),
      room_(options.room),
      tokens_L_(experts_L.size()),
      next_choice_(options.policy == CachePolicy::Auto ? kFirstChoice : 0) {
  for (const size_t experts : experts_L) {
    place_LE_.emplace_back(experts, kNone);
    uses_LE_.emplace_back(experts);
    pinned_LE_.emplace_back(experts, false);
  }
  size_t taken = 0;
  for (const ExpertId id : options_.pinned) {
    if ((taken += size_of(id)) > room_) break;
    pinned_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)] = true;
  }
}

bool ExpertCache::has(ExpertId id) const { return place_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)] != kNone; }

size_t ExpertCache::size_of(ExpertId id) const {
  return options_.sizes_LE.empty() ? 1 : options_.sizes_LE[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)];
}

size_t ExpertCache::slots() const {
  size_t count = 0, size = 0;
  for (size_t l = 0; l < uses_LE_.size(); ++l) {
    const size_t experts = uses_LE_[l].size() / (options_.has_low ? 2 : 1);
    for (size_t e = 0; e < experts; ++e) size += size_of({static_cast<int>(l), static_cast<int>(e)});
    count += experts;
  }
  return size == 0 ? 0 : room_ * count / size;
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
    if (place_LE_[layer_][e] != kNone) {
      visit.here.push_back(demand.expert);
    } else {
      const auto low = low_copy_of({layer, demand.expert});
      visit.missing.push_back({.expert = demand.expert, .low_is_here = low && has(*low)});
    }
  }
  give_room(layer, tokens, visit);
  if (next_choice_ > 0) choose_policy(layer, demands, tokens);
  return visit;
}

void ExpertCache::add(ExpertId id) {
  place_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)] = there_.size();
  there_.push_back(id);
  used_ += size_of(id);
}

// The last one takes its place in the list.
void ExpertCache::remove(ExpertId id) {
  size_t& place = place_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)];
  const ExpertId last = there_.back();
  there_.pop_back();
  if (last != id) {
    there_[place] = last;
    place_LE_[static_cast<size_t>(last.layer)][static_cast<size_t>(last.expert)] = place;
  }
  place = kNone;
  used_ -= size_of(id);
}

// Of layers up to that one.
std::vector<ExpertCache::Scored> ExpertCache::worst_first(int last_layer, std::span<const ExpertId> but) const {
  std::vector<Scored> heap;
  for (const ExpertId id : there_) {
    if (id.layer <= last_layer && std::ranges::find(but, id) == but.end()) heap.push_back({score(id), id});
  }
  std::ranges::make_heap(heap, std::greater());
  return heap;
}

// The best of those that are there and those that come are there afterwards. First come those whose copies of low precision are there
// already and give their room. Of layers that a wave has still to come to nobody goes: it will need them before any that come now.
void ExpertCache::give_room(int layer, size_t tokens, Visit& visit) {
  struct Newcomer {
    double score;
    Miss* miss;
  };
  std::vector<Newcomer> coming;
  std::vector<ExpertId> spared;  // those that come, and copies of low precision that are made whole: they don't go for others
  for (Miss& miss : visit.missing) {
    coming.push_back({score({layer, miss.expert}), &miss});
    if (miss.low_is_here) spared.push_back(*low_copy_of({layer, miss.expert}));
  }
  std::ranges::stable_sort(coming, std::greater(), [](const Newcomer& n) { return std::pair(n.miss->low_is_here, n.score); });

  const bool is_wave = tokens >= kWave && policy_ != CachePolicy::Belady;  // which knows
  std::optional<std::vector<Scored>> there;
  for (const Newcomer& newcomer : coming) {
    const ExpertId id{layer, newcomer.miss->expert};
    const auto low = newcomer.miss->low_is_here ? low_copy_of(id) : std::nullopt;
    size_t room = room_ - used_ + (low ? size_of(*low) : 0);
    if (room < size_of(id) && !there) there = worst_first(is_wave ? layer : kAllLayers, spared);
    std::vector<Scored> worse;
    while (room < size_of(id) && !there->empty() && there->front().score <= newcomer.score) {
      std::ranges::pop_heap(*there, std::greater());
      worse.push_back(there->back());
      there->pop_back();
      room += size_of(worse.back().id);
    }
    newcomer.miss->stays = room >= size_of(id);
    for (const Scored& expert : worse) {
      if (newcomer.miss->stays) {
        remove(expert.id);
        visit.leaving.push_back(expert.id);
      } else {
        there->push_back(expert);
        std::ranges::push_heap(*there, std::greater());
      }
    }
    if (!newcomer.miss->stays) continue;
    if (low) remove(*low);
    add(id);
    spared.push_back(id);
  }
}

std::optional<ExpertId> ExpertCache::low_copy_of(ExpertId id) const {
  const size_t experts = uses_LE_[static_cast<size_t>(id.layer)].size() / 2;
  if (!options_.has_low || static_cast<size_t>(id.expert) >= experts) return std::nullopt;
  return ExpertId{id.layer, id.expert + static_cast<int>(experts)};
}

void ExpertCache::lose(ExpertId id) {
  if (has(id)) remove(id);
}

std::vector<ExpertId> ExpertCache::use_room(size_t room) {
  room_ = room;
  std::vector<ExpertId> gone;
  if (used_ <= room_) return gone;
  for (std::vector<Scored> there = worst_first(kAllLayers, {}); used_ > room_; there.pop_back()) {
    std::ranges::pop_heap(there, std::greater());
    gone.push_back(there.back().id);
    remove(gone.back());
  }
  return gone;
}

// What each policy would have found in memory so far; the one that would have missed least is in force from now on.
void ExpertCache::choose_policy(int layer, std::span<const Demand> demands, size_t tokens) {
  if (past_.size() * there_.size() >= kMostScores) past_.pop_front();
  past_.push_back({layer, tokens, {demands.begin(), demands.end()}});
  past_tokens_ = std::max(past_tokens_, tokens_L_[layer_]);
  if (past_tokens_ < next_choice_) return;
  std::vector<size_t> experts_L;
  for (const auto& uses_E : uses_LE_) experts_L.push_back(uses_E.size());
  size_t least = SIZE_MAX;
  for (const CachePolicy candidate : kAutoChoices) {
    ExpertCache replay(experts_L, {room_, candidate, options_.pinned, options_.has_low, options_.sizes_LE});
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
