#include "store/expert_store.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <limits>

#include "base/error.h"
#include "base/random.h"

namespace moiety::store {
namespace {

constexpr size_t kPage = DirectFile::kAlignment;
constexpr size_t kMostBytesARead = size_t{1} << 20;

// Whole pages around a part.
struct Pages {
  uint64_t begin, end;
  explicit Pages(const FilePart& part)
      : begin(part.offset / kPage * kPage), end((part.offset + part.bytes + kPage - 1) / kPage * kPage) {}
  size_t bytes() const { return end - begin; }
  size_t reads() const { return (bytes() + kMostBytesARead - 1) / kMostBytesARead; }
};

// Of one expert.
struct Largest {
  size_t bytes = 0, reads = 0;
};
Largest largest_of(const std::vector<std::vector<std::vector<FilePart>>>& parts_LE) {
  Largest largest;
  for (const auto& layer : parts_LE) {
    for (const auto& parts : layer) {
      size_t reads = 0;
      for (const FilePart& part : parts) reads += Pages(part).reads();
      largest = {std::max(largest.bytes, bytes_as_read(parts)), std::max(largest.reads, reads)};
    }
  }
  return largest;
}

}  // namespace

size_t bytes_as_read(std::span<const FilePart> parts) {
  size_t bytes = 0;
  for (const FilePart& part : parts) bytes += Pages(part).bytes();
  return bytes;
}

TieredStore::TieredStore(std::span<const fs::path> files, std::vector<std::vector<std::vector<FilePart>>> parts_LE,
                         ExpertHost& host, const Options& options)
    : parts_LE_(std::move(parts_LE)),
      host_(host),
      options_(options),
      visits_L_(parts_LE_.size()),
      queue_(options.reads * std::max<size_t>(1, largest_of(parts_LE_).reads)) {
  assert(options.reads > 0 && options.reads <= options.slots);
  for (const fs::path& file : files) files_.emplace_back(file);
  for (const auto& layer : parts_LE_) slot_of_LE_.emplace_back(layer.size(), kNone);
  for (size_t i = 0; i < options.slots; ++i) {
    slots_.emplace_back();
    slots_.back().memory = memory_.allocate(options.slot_bytes);
  }
  const size_t bytes = largest_of(parts_LE_).bytes;
  std::byte* staging = memory_.allocate(options.reads * bytes + kPage);
  staging += (kPage - reinterpret_cast<uintptr_t>(staging) % kPage) % kPage;
  for (size_t i = 0; i < options.reads; ++i) {
    staging_.emplace_back();
    staging_.back().memory = staging + i * bytes;
    free_staging_.push_back(i);
  }
}

// Asks for an expert's bytes; false if as many as may be are on their way.
bool TieredStore::start(ExpertId id) {
  if (free_staging_.empty()) return false;
  const size_t number = free_staging_.back();
  free_staging_.pop_back();
  Staging& staging = staging_[number];
  staging.id = id;
  staging.parts.clear();
  staging.parts_left = 0;
  std::byte* to = staging.memory;
  for (const FilePart& part : parts_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)]) {
    const Pages pages(part);
    staging.parts.push_back(to + (part.offset - pages.begin));
    for (uint64_t at = pages.begin; at < pages.end; at += kMostBytesARead) {
      const size_t bytes = std::min<uint64_t>(kMostBytesARead, pages.end - at);
      const uint64_t needed_end = std::min<uint64_t>(at + bytes, part.offset + part.bytes);
      queue_.submit({&files_[part.file], at, {to, bytes}, static_cast<size_t>(needed_end - at), number});
      ++staging.parts_left;
      to += bytes;
    }
    statistics_.bytes_read += pages.bytes();
  }
  return true;
}

// Takes in reads until one more expert is whole; false if none is on its way or, with `wait` false, whole yet.
bool TieredStore::take_arrival(bool wait, std::vector<size_t>& arrived) {
  const auto begin = std::chrono::steady_clock::now();
  size_t number = 0;
  bool whole = false;
  while (!whole && queue_.next(number, wait)) whole = --staging_[number].parts_left == 0;
  if (whole) arrived.push_back(number);
  if (wait) statistics_.seconds_waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return whole;
}

// As many slots as will be wanted, as far as there are that nobody computes with.
void TieredStore::choose_victims(size_t wanted) {
  struct Candidate {
    double score;
    size_t slot;
  };
  std::vector<Candidate> candidates;
  const size_t layers = visits_L_.size();
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.pinned) continue;
    const size_t l = static_cast<size_t>(slot.id.layer), turns = (l + layers - layer_ - 1) % layers;
    const double score = slot.used ? keep_score(options_.policy, slot.use, visits_L_[l], turns, layers)
                                   : -std::numeric_limits<double>::infinity();
    candidates.push_back({score, i});
  }
  wanted = std::min(wanted, candidates.size());
  const auto worst = [](const Candidate& a, const Candidate& b) { return std::pair(a.score, a.slot) < std::pair(b.score, b.slot); };
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(wanted), candidates.end(), worst);
  victims_.clear();
  for (size_t i = wanted; i-- > 0;) victims_.push_back(candidates[i].slot);
}

size_t TieredStore::free_slot() {
  if (victims_.empty()) choose_victims(slots_.size());  // this visit goes on in slots that it filled before
  assert(!victims_.empty());
  const size_t at = victims_.back();
  victims_.pop_back();
  Slot& slot = slots_[at];
  if (!slot.used) return at;
  slot_of_LE_[static_cast<size_t>(slot.id.layer)][static_cast<size_t>(slot.id.expert)] = kNone;
  slot.used = false;
  host_.leave(slot.id);
  return at;
}

// Gives whole experts their slots.
void TieredStore::settle(std::span<const size_t> arrived) {
  std::vector<Arrival> arrivals;
  std::vector<size_t> taken;
  for (const size_t number : arrived) {
    const ExpertId id = staging_[number].id;
    const size_t at = free_slot();
    Slot& slot = slots_[at];
    slot.id = id;
    slot.used = slot.pinned = true;
    slot.use = {};
    use(slot.use, visits_, visits_L_[static_cast<size_t>(id.layer)]);
    slot_of_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)] = at;
    arrivals.push_back({id, staging_[number].parts, slot.memory});
  }
  host_.arrive(arrivals);
  free_staging_.insert(free_staging_.end(), arrived.begin(), arrived.end());
}

void TieredStore::hand_over(int layer, std::span<const int> experts, const Use& use) {
  use(experts);
  for (const int expert : experts) slots_[slot_of_LE_[static_cast<size_t>(layer)][static_cast<size_t>(expert)]].pinned = false;
}

// Waits for what is on its way and forgets it.
void TieredStore::abandon() {
  size_t number = 0;
  while (queue_.in_flight() > 0) {
    try {
      queue_.next(number);
    } catch (const Error&) {
    }
  }
  free_staging_.clear();
  for (size_t i = 0; i < staging_.size(); ++i) free_staging_.push_back(i);
  for (Slot& slot : slots_) slot.pinned = false;
}

double TieredStore::measure_read_rate(double seconds) {
  std::vector<ExpertId> all;
  for (size_t l = 0; l < parts_LE_.size(); ++l) {
    for (size_t e = 0; e < parts_LE_[l].size(); ++e) all.push_back({static_cast<int>(l), static_cast<int>(e)});
  }
  const StoreStatistics before = statistics_;
  Random random(1);
  const auto begin = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const auto wanted = [&] { return passed() < seconds; };
  try {
    std::vector<size_t> arrived;
    while (wanted()) {
      while (start(all[random.below(all.size())])) {
      }
      take_arrival(true, arrived);
      free_staging_.insert(free_staging_.end(), arrived.begin(), arrived.end());
      arrived.clear();
    }
    while (take_arrival(true, arrived)) {
    }
    free_staging_.insert(free_staging_.end(), arrived.begin(), arrived.end());
  } catch (...) {
    abandon();
    throw;
  }
  const double rate = static_cast<double>(statistics_.bytes_read - before.bytes_read) / passed();
  statistics_ = before;
  return rate;
}

void TieredStore::visit(int layer, std::span<const int> experts, const Use& use_them) {
  const size_t l = static_cast<size_t>(layer);
  layer_ = l;
  ++visits_;
  ++visits_L_[l];
  std::vector<int> here, missing;
  for (const int expert : experts) {
    const size_t at = slot_of_LE_[l][static_cast<size_t>(expert)];
    (at == kNone ? missing : here).push_back(expert);
    if (at == kNone) continue;
    slots_[at].pinned = true;
    use(slots_[at].use, visits_, visits_L_[l]);
  }
  choose_victims(missing.size());
  statistics_.hits += here.size();
  statistics_.misses += missing.size();
  // In the order in which they lie on the disk
  std::ranges::sort(missing, {}, [&](int expert) {
    const FilePart& first = parts_LE_[l][static_cast<size_t>(expert)].front();
    return std::pair(first.file, first.offset);
  });

  try {
    size_t started = 0, settled = 0;
    const auto start_more = [&] {
      while (started < missing.size() && start({layer, missing[started]})) ++started;
    };
    start_more();
    hand_over(layer, here, use_them);
    while (settled < missing.size()) {
      std::vector<size_t> arrived;
      take_arrival(true, arrived);
      while (arrived.size() < options_.reads && take_arrival(false, arrived)) {
      }
      std::vector<int> these;
      for (const size_t number : arrived) these.push_back(staging_[number].id.expert);
      assert(!these.empty());
      settle(arrived);
      settled += these.size();
      start_more();
      hand_over(layer, these, use_them);
    }
  } catch (...) {
    abandon();
    throw;
  }
}

}  // namespace moiety::store
