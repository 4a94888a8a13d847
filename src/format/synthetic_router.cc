#include "format/synthetic_router.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "base/random.h"

namespace moiety::format {
namespace {

// How the numbers of an embedding's row are made up: a constant, and normal ones of these deviations. A topic's share of what
// is random is 0.55.
constexpr double kConstant = 2, kTopic = 6, kOwn = 5.4;
constexpr double kSquare = kConstant * kConstant + kTopic * kTopic + kOwn * kOwn;
// An expert's mean over few topics strays from its chance, and sorting by what was found makes a steeper curve of that:
// popularity is made so much flatter.
constexpr double kFlatter = 0.92;
constexpr double kMostChance = 0.99;
constexpr size_t kNormals = 1048573;  // a prime

// Streams of random numbers; tokens and layers count on from theirs.
constexpr uint64_t kSeed = 2, kOfTopics = 0, kOfNormals = 1, kOfRouters = 1000, kOfTokens = 1000000;

// Where a normal number is below with this chance.
double normal_quantile(double chance) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < chance ? low : high) = middle;
  }
  return low;
}

// Shifts the numbers so that this is their mean.
void set_mean(std::span<float> numbers, double mean) {
  const double sum = std::accumulate(numbers.begin(), numbers.end(), 0.0);
  const double shift = mean - sum / static_cast<double>(numbers.size());
  for (float& number : numbers) number = static_cast<float>(number + shift);
}

int topic_of(int token, int vocabulary) { return static_cast<int>(static_cast<int64_t>(token) * kTopics / vocabulary); }

// The first token of a topic, or of the next one that has any.
int first_of(int topic, int vocabulary) {
  return static_cast<int>((static_cast<int64_t>(topic) * vocabulary + kTopics - 1) / kTopics);
}

}  // namespace

TokenRange topic_around(int token, int vocabulary) {
  const int topic = topic_of(token, vocabulary);
  return {first_of(topic, vocabulary), first_of(topic + 1, vocabulary)};
}

std::vector<double> zipf_chances(int num_experts, int experts_per_token) {
  std::vector<double> chances(static_cast<size_t>(num_experts));
  double low = 0, high = num_experts;
  for (int i = 0; i < 60; ++i) {
    const double c = (low + high) / 2;
    for (size_t e = 0; e < chances.size(); ++e) chances[e] = std::min(1.0, c / static_cast<double>(e + 1));
    (std::accumulate(chances.begin(), chances.end(), 0.0) < experts_per_token ? low : high) = c;
  }
  return chances;
}

SkewedRouting::SkewedRouting(const spec::ModelSpec& spec) : spec_(spec), normal_(kNormals) {
  Random of_normals(kSeed, kOfNormals), of_topics(kSeed, kOfTopics);
  for (float& number : normal_) number = static_cast<float>(of_normals.normal());
  topics_.resize(static_cast<size_t>(kTopics) * static_cast<size_t>(spec.width));
  for (float& number : topics_) number = static_cast<float>(kTopic * of_topics.normal());
  for (const double chance : zipf_chances(spec.moe.router.num_experts, spec.moe.router.experts_per_token)) {
    offsets_.push_back(kFlatter * normal_quantile(std::min(chance, kMostChance)));
  }
}

std::vector<float> SkewedRouting::embedding(int begin, int end) const {
  const size_t width = static_cast<size_t>(spec_.width);
  std::vector<float> rows(static_cast<size_t>(end - begin) * width);
  for (int token = begin; token < end; ++token) {
    const std::span row = std::span(rows).subspan(static_cast<size_t>(token - begin) * width, width);
    const float* const topic = &topics_[static_cast<size_t>(topic_of(token, spec_.vocab_size)) * width];
    const float* const own = &normal_[Random(kSeed, kOfTokens + static_cast<uint64_t>(token)).below(normal_.size() - width)];
    for (size_t d = 0; d < width; ++d) row[d] = topic[d] + static_cast<float>(kOwn) * own[d];
    set_mean(row, kConstant);
  }
  return rows;
}

std::vector<float> SkewedRouting::router(int layer) const {
  const size_t width = static_cast<size_t>(spec_.width), experts = offsets_.size();
  Random random(kSeed, kOfRouters + static_cast<uint64_t>(layer));
  std::vector<size_t> rank_E(experts);
  std::iota(rank_E.begin(), rank_E.end(), 0);
  for (size_t e = experts; e > 1; --e) std::swap(rank_E[e - 1], rank_E[random.below(e)]);

  // What a router is given is normed to a mean square of 1. Of that so much is constant, and the rest gives the random part of
  // a row a logit of deviation 1.
  const double constant = kConstant / std::sqrt(kSquare);
  const double deviation = 1 / std::sqrt(static_cast<double>(width) * (1 - constant * constant));
  std::vector<float> rows(experts * width);
  for (size_t e = 0; e < experts; ++e) {
    const std::span row = std::span(rows).subspan(e * width, width);
    for (float& number : row) number = static_cast<float>(deviation * random.normal());
    set_mean(row, offsets_[rank_E[e]] / (static_cast<double>(width) * constant));
  }
  return rows;
}

}  // namespace moiety::format
