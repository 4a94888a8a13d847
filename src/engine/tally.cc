#include "engine/tally.h"

#include <cmath>

namespace moiety::engine {
namespace {

constexpr double kHalfLife = 2000;  // tokens
constexpr size_t kRequests = 128;
constexpr std::chrono::seconds kLately(5);

}  // namespace

Tally::Tally(const spec::ModelSpec& spec) {
  const auto experts = static_cast<size_t>(spec.moe.router.num_experts);
  for (const spec::FeedForward kind : spec.feed_forward) {
    const size_t here = kind == spec::FeedForward::Moe ? experts : 0;
    none_.emplace_back(here);
    statistics_.load_LE.emplace_back(here);
  }
}

void Tally::add_routing(int layer, const moe::Routing& routing, std::span<const Turn> turns) {
  const std::lock_guard lock(mutex_);
  auto& load_E = statistics_.load_LE[static_cast<size_t>(layer)];
  const auto fading = static_cast<float>(std::exp2(-routing.num_tokens() / kHalfLife));
  for (float& load : load_E) load *= fading;
  size_t token = 0;
  for (const Turn& turn : turns) {
    const size_t end = token + turn.tokens + turn.drafted.size();
    auto& visits = visits_.try_emplace(turn.sequence->id, none_).first->second[static_cast<size_t>(layer)];
    for (int32_t n = routing.begin_T1[token]; n < routing.begin_T1[end]; ++n) {
      const auto expert = static_cast<size_t>(routing.experts_N[static_cast<size_t>(n)]);
      ++visits[expert];
      load_E[expert] += 1;
    }
    token = end;
  }
  while (visits_.size() > kRequests) visits_.erase(visits_.begin());
}

void Tally::add_step(const Step& step) {
  const std::lock_guard lock(mutex_);
  ++statistics_.steps;
  statistics_.busy_seconds += step.seconds;
  statistics_.idle_seconds += step.pause;
  statistics_.prompt_tokens += step.prompt_tokens;
  statistics_.new_tokens += step.new_tokens;
  statistics_.drafted += step.drafted;
  statistics_.accepted += step.accepted;
  const auto now = Clock::now();
  moments_.push_back({now, step.prompt_tokens, step.new_tokens});
  while (moments_.front().when < now - kLately) moments_.pop_front();
}

void Tally::update(const std::function<void(EngineStatistics&)>& change) {
  const std::lock_guard lock(mutex_);
  change(statistics_);
}

EngineStatistics Tally::statistics() const {
  const std::lock_guard lock(mutex_);
  EngineStatistics now = statistics_;
  const auto lately = Clock::now() - kLately;
  for (const Moment& moment : moments_) {
    if (moment.when < lately) continue;
    now.new_tokens_per_second += static_cast<double>(moment.new_tokens);
    now.prompt_tokens_per_second += static_cast<double>(moment.prompt_tokens);
  }
  const double seconds = std::chrono::duration<double>(kLately).count();
  now.new_tokens_per_second /= seconds;
  now.prompt_tokens_per_second /= seconds;
  return now;
}

std::vector<std::vector<uint32_t>> Tally::visits_of(uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = visits_.find(id);
  return found == visits_.end() ? Visits() : found->second;
}

}  // namespace moiety::engine
