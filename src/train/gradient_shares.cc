#include "train/gradient_shares.h"

#include <cmath>
#include <numeric>

#include "train/loops.h"

namespace moiety::train {
namespace {

size_t units_of(const Weights::Entry& entry) { return entry.is_stack() ? static_cast<size_t>(entry.whole_shape[0]) : 1; }

// Of a stack's numbers that are here, which expert of all has the one at `at`, and where the next one's begin.
struct Place {
  size_t unit, end;
};
Place place_of(const Weights::Entry& entry, size_t at) {
  if (!entry.is_stack()) return {0, entry.size};
  const size_t each = entry.size / static_cast<size_t>(entry.shape[0]), nth = at / each;
  if (entry.axis != 0) return {nth, (nth + 1) * each};
  size_t before = 0;
  for (const Stretch& kept : entry.kept) {
    if (nth < before + kept.size) return {kept.begin + nth - before, (nth + 1) * each};
    before += kept.size;
  }
  return {0, entry.size};
}

}  // namespace

std::string name_of(const GradientShare& share) {
  return share.expert < 0 ? share.entry->name : fmt::format("{} of expert {}", share.entry->name, share.expert);
}

std::vector<GradientShare> gradient_shares(const Weights& weights, Optimizer& optimizer, comm::Group* ranks) {
  const std::vector<Weights::Entry>& entries = weights.entries();
  std::vector<size_t> first;  // unit of each entry
  size_t units = 0;
  for (const Weights::Entry& entry : entries) {
    first.push_back(units);
    units += units_of(entry);
  }
  std::vector<double> sums(2 * units);  // of squares, then of second moments
  optimizer.for_each_own([&](size_t entry, size_t begin, ConstFloats gradient, ConstFloats second_moment, double share) {
    for (size_t at = 0; at < gradient.size();) {
      const Place place = place_of(entries[entry], begin + at);
      const size_t count = std::min(place.end - begin - at, gradient.size() - at), unit = first[entry] + place.unit;
      sums[unit] += share * sum_of_squares(gradient.subspan(at, count));
      if (!second_moment.empty()) {
        const ConstFloats usual = second_moment.subspan(at, count);
        sums[units + unit] += share * std::accumulate(usual.begin(), usual.end(), 0.0);
      }
      at += count;
    }
  });
  if (ranks != nullptr) ranks->sum(sums);

  std::vector<GradientShare> shares;
  for (size_t e = 0; e < entries.size(); ++e) {
    if (!entries[e].trained) continue;
    for (size_t i = 0; i < units_of(entries[e]); ++i) {
      shares.push_back({&entries[e], entries[e].is_stack() ? static_cast<int>(i) : -1, sums[first[e] + i], sums[units + first[e] + i]});
    }
  }
  return shares;
}

NoNumbers no_numbers(const std::vector<GradientShare>& shares) {
  NoNumbers found;
  for (const GradientShare& share : shares) {
    if (std::isfinite(share.square)) continue;
    found.first = &share;
    ++found.count;
  }
  return found;
}

GrownShare most_grown(const std::vector<GradientShare>& shares) {
  double all = 0, usually = 0;
  for (const GradientShare& share : shares) {
    all += share.square;
    usually += share.usual;
  }
  GrownShare most;
  for (const GradientShare& share : shares) {
    const GrownShare grown{&share, all > 0 ? share.square / all : 0, usually > 0 ? share.usual / usually : 0};
    if (most.of == nullptr || grown.share - grown.usually > most.share - most.usually) most = grown;
  }
  return most;
}

}  // namespace moiety::train
