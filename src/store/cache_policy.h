// Which of the experts stay in memory: decisions from what is known of their use, without any state of their own, so that a
// replay of a routing trace decides as the engine does.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace moiety::store {

struct ExpertId {
  int layer = 0, expert = 0;
  auto operator<=>(const ExpertId&) const = default;
};

// One of the experts that a step's tokens chose in a layer.
struct Demand {
  int expert = 0;
  int tokens = 1;    // that chose it
  float weight = 0;  // that the router gave it, the sum over these tokens
};

enum class CachePolicy {
  Auto,      // one of the next five, by a replay of what was seen so far (expert_cache.h)
  Lru,       // the one that was not used for the longest time goes
  Lfu,       // the one that was used least goes; a use counts half after kLongRun tokens
  Weight,    // the same, a use counting as much as the router's weight: HybriMoE's score (arXiv 2504.05897)
  Distance,  // the one whose layer comes again last goes
  Blend,     // the one that is least likely to be used next, judged from its use lately and in the long run
  Belady,    // the one that is used again last goes: the optimum, for replays that know what comes
};
inline constexpr CachePolicy kAutoChoices[] = {CachePolicy::Lru, CachePolicy::Lfu, CachePolicy::Weight, CachePolicy::Distance,
                                               CachePolicy::Blend};
std::string_view name(CachePolicy policy);
// As name() has it; nothing: there is none of that name.
std::optional<CachePolicy> policy_named(std::string_view name);

// Tokens after which a use counts half.
inline constexpr int kLately = 8, kLongRun = 256;

// What is known of an expert's use, in memory or not. Time is counted in tokens that its layer has had.
struct ExpertUse {
  uint64_t visit = 0;  // the number of its last visit, counted over all layers; 0: there was none
  uint64_t token = 0;  // of its layer, then
  double lately = 0, long_run = 0, weight = 0;  // uses and what the router gave them, fading; as of `token`
  uint64_t next = std::numeric_limits<uint64_t>::max();  // the visit when it is used again, where that is known
};

// `tokens` of the layer's tokens, the last of which is the `token`th it has had, brought this demand.
void use(ExpertUse& expert, const Demand& demand, size_t tokens, uint64_t visit, uint64_t token);

// How much an expert should stay: the smallest goes. `token`: how many tokens its layer has had; `turns`: how many layers come
// before it comes again, of `layers`.
double keep_score(CachePolicy policy, const ExpertUse& expert, uint64_t token, size_t turns, size_t layers);

}  // namespace moiety::store
