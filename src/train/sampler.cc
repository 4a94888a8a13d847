#include "train/sampler.h"

#include <xxhash.h>

#include <algorithm>
#include <cassert>
#include <numeric>

#include "base/random.h"

namespace moiety::train {
namespace {

void shuffle(std::vector<uint32_t>& values, uint64_t seed, uint64_t stream) {
  Random random(seed, stream);
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

std::vector<uint32_t> counting(size_t count) {
  std::vector<uint32_t> values(count);
  std::iota(values.begin(), values.end(), 0u);
  return values;
}

}  // namespace

DomainStream::DomainStream(std::string name, const Shard& shard, size_t sequence, std::optional<uint64_t> shuffle_seed,
                           DomainPosition position)
    : name_(std::move(name)),
      shard_(shard),
      sequence_(sequence),
      windows_(static_cast<size_t>((shard.num_tokens() + sequence - 1) / sequence)),
      shuffle_seed_(shuffle_seed),
      position_(position) {
  start_epoch();
}

void DomainStream::start_epoch() {
  documents_ = counting(shard_.num_documents());
  window_order_ = counting(windows_);
  if (shuffle_seed_) {
    // Two streams of random numbers an epoch, the domain's own.
    const auto stream = [&](uint64_t which) {
      return XXH64(name_.data(), name_.size(), 2 * position_.epoch + which);
    };
    shuffle(documents_, *shuffle_seed_, stream(0));
    shuffle(window_order_, *shuffle_seed_, stream(1));
  }
  begins_.clear();
  uint64_t begin = 0;
  for (const uint32_t document : documents_) {
    begins_.push_back(begin);
    begin += shard_.document_end(document) - shard_.document_begin(document);
  }
}

void DomainStream::take(Batch& batch) {
  if (position_.window == windows_) {
    position_.window = 0;
    ++position_.epoch;
    start_epoch();
  }
  add_window(window_order_[position_.window], batch);
  ++position_.window;
  ++position_.rows;
}

void DomainStream::add_window(uint64_t window, Batch& batch) const {
  const uint64_t begin = window * sequence_, end = std::min<uint64_t>(begin + sequence_, shard_.num_tokens());
  size_t index = static_cast<size_t>(std::ranges::upper_bound(begins_, begin) - begins_.begin()) - 1;
  const size_t row_end = batch.tokens_T.size() + sequence_;
  batch.sequence = sequence_;
  for (uint64_t at = begin; at < end; ++index) {
    const uint32_t document = documents_[index];
    const uint64_t first = shard_.document_begin(document), last = shard_.document_end(document);
    const uint64_t offset = at - begins_[index], count = std::min(last - first - offset, end - at);
    batch.segments.push_back({.begin = static_cast<int>(batch.tokens_T.size()), .length = static_cast<int>(count), .at = static_cast<int64_t>(first + offset)});
    for (uint64_t i = first + offset; i < first + offset + count; ++i) {
      batch.tokens_T.push_back(token(i, batch));
      // Every document begins with the end-of-text token, which is what follows a document's last token.
      batch.targets_T.push_back(token(i + 1 < last ? i + 1 : first, batch));
    }
    at += count;
  }
  if (batch.tokens_T.size() < row_end) {
    batch.segments.push_back({static_cast<int>(batch.tokens_T.size()),
                              static_cast<int>(row_end - batch.tokens_T.size())});
    batch.tokens_T.resize(row_end, token(0, batch));
    batch.targets_T.resize(row_end, -1);
  }
}

// The file may have been damaged since it was written, or while it is read.
int32_t DomainStream::token(uint64_t at, Batch& batch) const {
  const int32_t id = shard_.token(at);
  if (shard_.is_token(id)) return id;
  if (!batch.damage) batch.damage = Damage{.at = at, .id = static_cast<uint32_t>(id)};
  return 0;
}

Sampler::Sampler(const std::vector<Domain>& domains, size_t sequence, uint64_t seed)
    : domains_(domains), sequence_(sequence), seed_(seed) {
  for (const Domain& domain : domains_) streams_.emplace_back(domain.name, *domain.shard, sequence_, seed_);
}

// The domain that is furthest behind its share: as even as weights allow, and a function of the counts alone.
size_t Sampler::next_domain() const {
  double total_weight = 0, total_rows = 1;
  for (size_t d = 0; d < domains_.size(); ++d) {
    total_weight += domains_[d].weight;
    total_rows += static_cast<double>(streams_[d].position().rows);
  }
  size_t best = 0;
  double most_behind = -1e300;
  for (size_t d = 0; d < domains_.size(); ++d) {
    if (domains_[d].weight <= 0) continue;
    const double behind =
        total_rows * domains_[d].weight / total_weight - static_cast<double>(streams_[d].position().rows);
    if (behind > most_behind) {
      most_behind = behind;
      best = d;
    }
  }
  return best;
}

Batch Sampler::next(size_t sequences) {
  Batch batch;
  for (size_t i = 0; i < sequences; ++i) {
    const size_t domain = next_domain(), first = batch.segments.size();
    const bool was_damaged = batch.damage.has_value();
    streams_[domain].take(batch);
    if (batch.damage && !was_damaged) batch.damage->domain = static_cast<int>(domain);
    for (size_t s = first; s < batch.segments.size(); ++s) batch.segments[s].domain = static_cast<int>(domain);
  }
  return batch;
}

Json Sampler::state() const {
  Json domains = Json::array();
  for (size_t d = 0; d < streams_.size(); ++d) {
    const DomainPosition& at = streams_[d].position();
    domains.push_back({{"name", streams_[d].name()},
                       {"text", fmt::format("{:016x}", domains_[d].shard->info().fingerprint)},
                       {"epoch", at.epoch},
                       {"window", at.window},
                       {"rows", at.rows}});
  }
  return domains;
}

void Sampler::restore(const Json& state, const std::string& where) {
  require(state.is_array() && state.size() == streams_.size(), "{}: {} domains, the configuration has {}", where,
          state.size(), streams_.size());
  std::vector<DomainStream> streams;
  for (size_t d = 0; d < domains_.size(); ++d) {
    const JsonObject saved(state[d], where + ": domains");
    const std::string text = fmt::format("{:016x}", domains_[d].shard->info().fingerprint);
    require(saved.text("name") == domains_[d].name && saved.text("text") == text,
            "{}: domain \"{}\" was trained on another text than \"{}\" holds now", where, saved.text("name"),
            domains_[d].name);
    const auto count = [&](const char* key) { return static_cast<uint64_t>(saved.integer(key, 0, INT64_MAX)); };
    const DomainPosition position{count("epoch"), count("window"), count("rows")};
    require(position.window <= streams_[d].windows_per_epoch(), "{}: domain \"{}\" is at window {} of {}", where,
            domains_[d].name, position.window, streams_[d].windows_per_epoch());
    streams.emplace_back(domains_[d].name, *domains_[d].shard, sequence_, seed_, position);
  }
  streams_ = std::move(streams);
}

}  // namespace moiety::train
