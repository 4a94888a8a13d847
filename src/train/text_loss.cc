#include "train/text_loss.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace moiety::train {
void add_text_losses(const Batch& batch, std::span<const float> nats_T, std::vector<TextLoss>& losses) {
  if (nats_T.empty()) return;
  for (const Segment& segment : batch.segments) {
    TextLoss loss{segment.domain, segment.at};
    for (size_t t = static_cast<size_t>(segment.begin); t < static_cast<size_t>(segment.begin + segment.length); ++t) {
      if (batch.targets_T[t] < 0) continue;
      loss.nats += static_cast<double>(nats_T[t]);
      ++loss.tokens;
    }
    if (segment.at >= 0 && loss.tokens > 0) losses.push_back(loss);
  }
}

std::optional<TextLoss> worst_text(const std::vector<TextLoss>& losses, comm::Group* ranks) {
  std::array sums{0.0, 0.0};  // of what is a number: nats, tokens
  for (const TextLoss& loss : losses) {
    if (!std::isfinite(loss.nats)) continue;
    sums[0] += loss.nats;
    sums[1] += static_cast<double>(loss.tokens);
  }
  if (ranks != nullptr) ranks->sum(sums);
  const double mean = sums[1] > 0 ? sums[0] / sums[1] : 0;
  const auto beyond = [mean](const TextLoss& loss) {
    return std::isfinite(loss.nats) ? loss.nats - mean * static_cast<double>(loss.tokens) : std::numeric_limits<double>::infinity();
  };
  const auto found = std::ranges::max_element(losses, {}, beyond);
  TextLoss worst = found == losses.end() ? TextLoss{} : *found;
  if (ranks != nullptr) {
    const auto all = ranks->gather(std::array{worst.domain, worst.at, worst.tokens, std::bit_cast<int64_t>(worst.nats)});
    for (size_t i = 0; i < all.size(); i += 4) {
      const TextLoss other{all[i], all[i + 1], all[i + 2], std::bit_cast<double>(all[i + 3])};
      if (i == 0 || worst.tokens == 0 || (other.tokens > 0 && beyond(other) > beyond(worst))) worst = other;
    }
  }
  return worst.tokens == 0 ? std::nullopt : std::optional(worst);
}

TextPlace place_in_text(const PreparedData& data, int64_t domain, uint64_t at) {
  const PreparedDomain& of = data.domains[static_cast<size_t>(domain)];
  const Shard& shard = *of.train;
  const size_t document = shard.document_of(at);
  return {of.name, document, at - shard.document_begin(document), shard.path(), shard.byte_of(at)};
}

}  // namespace moiety::train
