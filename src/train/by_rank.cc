#include "train/by_rank.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/progress.h"

namespace moiety::train {
namespace {

double median_of(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<ptrdiff_t>(numbers.size() / 2);
  std::ranges::nth_element(numbers, middle);
  return *middle;
}

}  // namespace

int64_t visits_of(const moe::Load& load) {
  int64_t all = 0;
  for (int layer = 0; layer < load.layers(); ++layer) {
    for (const int64_t visits : load.of_layer(layer)) all += visits;
  }
  return all;
}

ByRank::ByRank(int rank, int ranks)
    : rank_(static_cast<size_t>(rank)), ranks_(static_cast<size_t>(ranks)), sent_(ranks_), sums_(ranks_ * fields()), is_slow_(ranks_) {}

std::vector<double> ByRank::mine(const Activity& activity, double seconds, int64_t visits, std::span<const uint64_t> bytes_sent) {
  std::vector<double> all(ranks_ * fields());
  const auto row = std::span(all).subspan(rank_ * fields(), fields());
  row[kSeconds] = seconds;
  row[kWaited] = activity.waited();
  row[kVisits] = static_cast<double>(visits);
  for (size_t phase = 0; phase < kPhases.size(); ++phase) row[kPhase + phase] = activity.busy(kPhases[phase]);
  for (size_t to = 0; to < ranks_; ++to) row[kBytes + (ranks_ <= kLinks ? to : 0)] += static_cast<double>(bytes_sent[to] - sent_[to]);
  sent_.assign(bytes_sent.begin(), bytes_sent.end());
  return all;
}

void ByRank::add(std::span<const double> summed) {
  if (steps_.size() == kJudged) steps_.pop_front();
  steps_.emplace_back(summed.begin(), summed.end());
  for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += summed[i];
  ++summed_;
}

Json ByRank::take_means() {
  const auto means = [&](size_t field) {
    Json list = Json::array();
    for (size_t rank = 0; rank < ranks_; ++rank) list.push_back(sums_[rank * fields() + field] / static_cast<double>(std::max<int64_t>(1, summed_)));
    return list;
  };
  Json json = {{"seconds", means(kSeconds)}, {"waited", means(kWaited)}, {"visits", means(kVisits)}};
  for (size_t phase = 0; phase < kPhases.size(); ++phase) json[kPhases[phase]] = means(kPhase + phase);
  if (ranks_ > kLinks) {
    json["bytes"] = means(kBytes);
  } else {
    json["bytes"] = Json::array();
    for (size_t from = 0; from < ranks_; ++from) {
      Json row = Json::array();
      for (size_t to = 0; to < ranks_; ++to) row.push_back(sums_[from * fields() + kBytes + to] / static_cast<double>(std::max<int64_t>(1, summed_)));
      json["bytes"].push_back(std::move(row));
    }
  }
  std::ranges::fill(sums_, 0);
  summed_ = 0;
  return json;
}

double ByRank::median(size_t rank, const auto& of_step) const {
  std::vector<double> numbers;
  for (const auto& step : steps_) numbers.push_back(of_step(std::span(step).subspan(rank * fields(), fields())));
  return median_of(std::move(numbers));
}

double ByRank::busy(size_t rank) const {
  return median(rank, [](auto row) { return row[kSeconds] - row[kWaited]; });
}

double ByRank::in_phase(size_t rank, size_t phase) const {
  return median(rank, [&](auto row) { return row[kPhase + phase]; });
}

double ByRank::of_others(size_t rank, const auto& of_rank) const {
  std::vector<double> numbers;
  for (size_t other = 0; other < ranks_; ++other) {
    if (other != rank) numbers.push_back(of_rank(other));
  }
  return median_of(std::move(numbers));
}

// With the phase that costs it most.
std::string ByRank::describe_slow(size_t rank) const {
  const double own = busy(rank), others = of_others(rank, [&](size_t other) { return busy(other); });
  size_t worst = 0;
  double most = 0, worst_own = 0, worst_others = 0;
  for (size_t phase = 0; phase < kPhases.size(); ++phase) {
    const double here = in_phase(rank, phase), there = of_others(rank, [&](size_t other) { return in_phase(other, phase); });
    if (here - there <= most) continue;
    worst = phase;
    most = here - there;
    worst_own = here;
    worst_others = there;
  }
  std::string sentence = fmt::format("rank {} is slow: a step takes it {:.3f} s without waiting, the others {:.3f} s", rank, own, others);
  if (most > 0) sentence += fmt::format("; {} takes {:.1f} x the others' {:.4f} s", kPhases[worst], worst_own / std::max(worst_others, 1e-9), worst_others);
  return sentence;
}

std::optional<std::string> ByRank::news() {
  if (ranks_ < 2 || steps_.size() < kJudged) return std::nullopt;
  std::string all;
  for (size_t rank = 0; rank < ranks_; ++rank) {
    const double ratio = busy(rank) / std::max(1e-9, of_others(rank, [&](size_t other) { return busy(other); }));
    // What is between the two thresholds stays what it was.
    const bool becomes = !is_slow_[rank] && ratio > kSlow, recovers = is_slow_[rank] && ratio < (1 + kSlow) / 2;
    if (!becomes && !recovers) continue;
    is_slow_[rank] = becomes;
    if (!all.empty()) all += "; ";
    all += becomes ? describe_slow(rank) : fmt::format("rank {} is no longer slow", rank);
  }
  if (all.empty()) return std::nullopt;
  return all;
}

std::vector<std::string> ByRank::table() const {
  if (steps_.empty()) return {};
  std::vector<std::string> lines{fmt::format("{:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}", "rank", "step ms", "waits ms", "data", "forward",
                                             "backward", "optimizer", "sends B", "visits")};
  for (size_t rank = 0; rank < ranks_; ++rank) {
    const auto of = [&](size_t field) { return median(rank, [&](auto row) { return row[field]; }); };
    const double bytes = median(rank, [&](auto row) {
      double sum = 0;
      for (const double number : row.subspan(kBytes)) sum += number;
      return sum;
    });
    lines.push_back(fmt::format("{:>6} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9} {:>10}{}", rank, 1e3 * of(kSeconds), 1e3 * of(kWaited),
                                1e3 * of(kPhase), 1e3 * of(kPhase + 1), 1e3 * of(kPhase + 2), 1e3 * of(kPhase + 3), short_number(bytes),
                                short_number(of(kVisits)), is_slow_[rank] ? "  slow" : ""));
  }
  return lines;
}

}  // namespace moiety::train
