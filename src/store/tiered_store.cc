#include "store/tiered_store.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace moiety::store {
namespace {

constexpr size_t kPage = DirectFile::kAlignment;
constexpr size_t kMostBytesARead = size_t{1} << 20;

// Whole pages around a part.
struct Pages {
  uint64_t begin, end;
  explicit Pages(const FilePart& part) : begin(part.offset / kPage * kPage), end(DirectFile::whole_pages(part.offset + part.bytes)) {}
  size_t bytes() const { return end - begin; }
  size_t reads() const { return (bytes() + kMostBytesARead - 1) / kMostBytesARead; }
};

size_t reads_of(std::span<const FilePart> parts) {
  size_t reads = 0;
  for (const FilePart& part : parts) reads += Pages(part).reads();
  return reads;
}

// Of what a function says of each element of a list of lists.
template <class T, class Of>
size_t most(const std::vector<std::vector<T>>& lists, const Of& of) {
  size_t most = 0;
  for (const auto& list : lists) {
    for (const T& element : list) most = std::max<size_t>(most, of(element));
  }
  return most;
}

std::vector<size_t> counts(const std::vector<std::vector<std::vector<FilePart>>>& parts_LE) {
  std::vector<size_t> experts_L;
  for (const auto& layer : parts_LE) experts_L.push_back(layer.size());
  return experts_L;
}

double seconds(std::chrono::steady_clock::duration passed) { return std::chrono::duration<double>(passed).count(); }

// With each expert's memory in whole pages, and no less than is read into it.
TieredStore::Options in_whole_pages(TieredStore::Options options, const std::vector<std::vector<std::vector<FilePart>>>& parts_LE) {
  for (size_t l = 0; l < parts_LE.size(); ++l) {
    for (size_t e = 0; e < parts_LE[l].size(); ++e) {
      size_t& bytes = options.bytes_LE[l][e];
      bytes = DirectFile::whole_pages(std::max(bytes, options.in_place ? bytes_as_read(parts_LE[l][e]) : 0));
    }
  }
  return options;
}

size_t least_of(const std::vector<std::vector<size_t>>& bytes_LE) {
  size_t least = SIZE_MAX;
  for (const auto& bytes_E : bytes_LE) {
    for (const size_t bytes : bytes_E) least = std::min(least, bytes);
  }
  return least;
}

// Slots that so much room is enough for.
size_t most_slots(const std::vector<std::vector<size_t>>& bytes_LE, size_t room) {
  size_t all = 0;
  for (const auto& bytes_E : bytes_LE) all += bytes_E.size();
  return std::min(all, room / least_of(bytes_LE));
}

}  // namespace

size_t bytes_as_read(std::span<const FilePart> parts) {
  size_t bytes = 0;
  for (const FilePart& part : parts) bytes += Pages(part).bytes();
  return bytes;
}

StoreStatistics StoreStatistics::operator-(const StoreStatistics& before) const {
  return {hits - before.hits,
          misses - before.misses,
          bytes_read - before.bytes_read,
          expected - before.expected,
          expected_right - before.expected_right,
          expected_missing - before.expected_missing,
          read_ahead - before.read_ahead,
          bytes_wasted - before.bytes_wasted,
          seconds_waited - before.seconds_waited,
          upgrades - before.upgrades,
          bytes_spared - before.bytes_spared};
}

TieredStore::TieredStore(std::span<const fs::path> files, std::vector<std::vector<std::vector<FilePart>>> parts_LE,
                         ExpertHost& host, const Options& options)
    : parts_LE_(std::move(parts_LE)),
      host_(host),
      options_(in_whole_pages(options, parts_LE_)),
      cache_(counts(parts_LE_), {options.room, options.policy, options.pinned, options.has_low, options_.bytes_LE}),
      most_bytes_(most(options_.bytes_LE, std::identity())),
      most_bytes_as_read_(most(parts_LE_, [](const auto& parts) { return bytes_as_read(parts); })),
      memory_(most_slots(options_.bytes_LE, options.room) + options.reads + options.more_reads, least_of(options_.bytes_LE), most_bytes_),
      paths_(counts(parts_LE_)),
      queue_((options.reads + options.more_reads) * most(parts_LE_, [](const auto& parts) { return reads_of(parts); }), options.engine) {
  assert(options.reads > 0);
  if (options.predictor == Predictor::Certain) {
    certain_LE_.resize(parts_LE_.size());
    expected_limit_ = SIZE_MAX;
    disk_is_free_ = true;
  }
  for (const fs::path& file : files) files_.emplace_back(file);
  for (const auto& parts_E : parts_LE_) slots_LE_.emplace_back(parts_E.size());
  if (!options.in_place) {
    raws_ = raw_memory_.allocate((options.reads + options.more_reads) * most_bytes_as_read_ + kPage);
    raws_ += (kPage - reinterpret_cast<uintptr_t>(raws_) % kPage) % kPage;
  }
  while (transits_.size() < options.reads) add_transit();
}

void TieredStore::add_transit() {
  Transit& transit = transits_.emplace_back();
  transit.slot = memory_.take();
  transit.raw = options_.in_place ? transit.slot.data : raws_ + (transits_.size() - 1) * most_bytes_as_read_;
}

const std::vector<FilePart>& TieredStore::parts_of(ExpertId id) const {
  return parts_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)];
}

TieredStore::Transit* TieredStore::free_transit() {
  const auto found = std::ranges::find(transits_, Transit::State::Free, &Transit::state);
  return found == transits_.end() ? nullptr : &*found;
}

TieredStore::Transit* TieredStore::transit_of(ExpertId id) {
  for (Transit& transit : transits_) {
    if (transit.state != Transit::State::Free && transit.id == id) return &transit;
  }
  return nullptr;
}

// Asks for an expert's bytes.
void TieredStore::start(Transit& transit, const ToRead& expert, Transit::For reader) {
  const std::span<const FilePart> all_parts = parts_of(expert.id), parts = all_parts.subspan(expert.parts_here);
  for (const FilePart& part : parts) files_[part.file].refuse_changes();
  transit.state = Transit::State::Coming;
  transit.id = expert.id;
  transit.reader = reader;
  transit.parts.clear();
  transit.reads_left = transit.bytes = 0;
  transit.slot.held = std::max(transit.slot.held, cache_.size_of(expert.id));
  std::byte* to = transit.raw;
  for (const FilePart& part : parts) {
    const Pages pages(part);
    const DirectFile& file = files_[part.file];
    transit.parts.push_back(to + (part.offset - pages.begin));
    for (uint64_t at = pages.begin; at < pages.end; at += kMostBytesARead) {
      const size_t bytes = std::min<uint64_t>(kMostBytesARead, pages.end - at);
      const uint64_t needed_end = std::min<uint64_t>(at + bytes, part.offset + part.bytes);
      queue_.submit({&file, at, {to, bytes}, static_cast<size_t>(needed_end - at), static_cast<size_t>(&transit - transits_.data())});
      ++transit.reads_left;
      to += bytes;
    }
    transit.bytes += pages.bytes();
  }
  statistics_.bytes_read += transit.bytes;
  if (reader == Transit::For::Guess) ++statistics_.read_ahead;
  if (expert.parts_here == 0) return;
  ++statistics_.upgrades;
  statistics_.bytes_spared += bytes_as_read(all_parts.first(expert.parts_here));
}

void TieredStore::release(Transit& transit) {
  if (transit.reader == Transit::For::Nobody) statistics_.bytes_wasted += transit.bytes;
  transit.state = Transit::State::Free;
}

// Takes in one read; false if none is on its way or, with `wait` false, done.
bool TieredStore::take_read(bool wait) {
  size_t number = 0;
  const Clock::time_point begin = Clock::now();
  const bool taken = queue_.next(number, wait);
  if (wait) statistics_.seconds_waited += seconds(Clock::now() - begin);
  if (!taken) return false;
  Transit& transit = transits_[number];
  if (--transit.reads_left > 0) return true;
  transit.state = Transit::State::Here;
  if (transit.reader == Transit::For::Nobody) release(transit);
  return true;
}

void TieredStore::expect(int layer, std::span<const int> experts) {
  if (options_.predictor == Predictor::Certain) {
    certain_LE_[static_cast<size_t>(layer)].assign(experts.begin(), experts.end());
    expect_certain();
    if (disk_is_free_) start_expected();
  } else if (options_.predictor == Predictor::Caller) {
    set_expected(layer, experts);
  }
}

void TieredStore::set_expected(int layer, std::span<const int> experts) {
  expected_.clear();
  add_expected(layer, experts);
  if (disk_is_free_) start_expected();
}

void TieredStore::add_expected(int layer, std::span<const int> experts) {
  for (const int expert : experts) {
    const auto low = options_.in_planes ? cache_.low_copy_of({layer, expert}) : std::nullopt;
    if (!has({layer, expert}) && !(low && has(*low))) expected_.push_back({layer, expert});
  }
}

// What is certain, with the experts that are in memory now.
void TieredStore::expect_certain() {
  expected_.clear();
  expected_started_ = 0;
  for (size_t layer = 0; layer < certain_LE_.size(); ++layer) add_expected(static_cast<int>(layer), certain_LE_[layer]);
}

// The layer that has experts after this one; -1 after the last.
int TieredStore::layer_after(int layer) const {
  for (size_t l = static_cast<size_t>(layer) + 1; l < parts_LE_.size(); ++l) {
    if (!parts_LE_[l].empty()) return static_cast<int>(l);
  }
  return -1;
}

// What this store itself expects of the next layer.
void TieredStore::predict(int layer, std::span<const Demand> demands, size_t tokens) {
  const int next = layer_after(layer);
  const size_t most = demands.size();
  if (options_.predictor == Predictor::Path) {
    if (tokens == 1 && last_layer_ >= 0 && layer_after(last_layer_) == layer) paths_.learn(last_layer_, last_demands_, layer, demands);
    last_layer_ = tokens == 1 ? layer : -1;
    last_demands_.assign(demands.begin(), demands.end());
    if (next >= 0) set_expected(next, paths_.rank(layer, demands, next, most));
  } else if (options_.predictor == Predictor::Previous && next >= 0) {
    std::vector<int> ranked(parts_LE_[static_cast<size_t>(next)].size());
    std::iota(ranked.begin(), ranked.end(), 0);
    std::ranges::stable_sort(ranked, std::greater(), [&](int e) { return cache_.use_of({next, e}).lately; });
    ranked.resize(std::min(most, ranked.size()));
    set_expected(next, ranked);
  }
}

// The disk has nothing left to do for this layer: the likeliest of the next one.
void TieredStore::start_expected() {
  const size_t limit = std::min({expected_limit_, transits_.size() - 1, expected_.size()});
  for (; expected_started_ < limit; ++expected_started_) {
    const ExpertId id = expected_[expected_started_];
    if (Transit* const coming = transit_of(id)) {  // it was expected before, for nothing
      coming->reader = Transit::For::Guess;
      continue;
    }
    // One is left for what a visit asks for.
    const auto ahead = static_cast<size_t>(std::ranges::count_if(transits_, [](const Transit& transit) {
      return transit.state != Transit::State::Free && transit.reader == Transit::For::Guess;
    }));
    Transit* const transit = free_transit();
    if (transit == nullptr || ahead + 1 >= transits_.size()) return;
    start(*transit, {id}, Transit::For::Guess);
  }
}

// What was read ahead turns out to be asked for, or not.
void TieredStore::sort_out_expected(int layer, size_t tokens, const ExpertCache::Visit& visit) {
  const auto is_missing = [&](ExpertId id) {
    return id.layer == layer && std::ranges::find(visit.missing, id.expert, &ExpertCache::Miss::expert) != visit.missing.end();
  };
  for (Transit& transit : transits_) {
    if (transit.state == Transit::State::Free) continue;
    const bool comes_later = transit.id.layer != layer && options_.predictor == Predictor::Certain &&
                             std::ranges::find(expected_, transit.id) != expected_.end();
    transit.reader = is_missing(transit.id) ? Transit::For::Visit : comes_later ? Transit::For::Guess : Transit::For::Nobody;
    if (transit.reader == Transit::For::Nobody && transit.state == Transit::State::Here) release(transit);
  }
  const auto expected = static_cast<size_t>(std::ranges::count(expected_, layer, &ExpertId::layer));
  if (expected > 0) {
    const auto right = static_cast<size_t>(std::ranges::count_if(expected_, is_missing));
    statistics_.expected += expected;
    statistics_.expected_right += right;
    statistics_.expected_missing += visit.missing.size();
    read_ahead_.learn(tokens, expected, right, seconds(Clock::now() - disk_idle_since_));
  }
  if (options_.predictor == Predictor::Certain) certain_LE_[static_cast<size_t>(layer)].clear();
  expect_certain();
  expected_limit_ = options_.predictor == Predictor::Certain ? SIZE_MAX : read_ahead_.limit(tokens);
}

// An expert that was computed with stays, or goes.
void TieredStore::settle(Transit& transit, const ExpertCache::Miss& miss) {
  if (miss.stays) {
    if (miss.low_is_here) vacate({{*cache_.low_copy_of(transit.id)}});
    SlotMemory::trim(transit.slot, cache_.size_of(transit.id));
    stay_bytes_ += transit.slot.held;
    slot_of(transit.id) = std::exchange(transit.slot, memory_.take());
    memory_.keep_vacant(cache_.room() - stay_bytes_);
    if (options_.in_place) transit.raw = transit.slot.data;
  } else {
    host_.leave(transit.id);
  }
  release(transit);
}

// Those that stayed go. Their memory is for those that come, who are no larger together.
void TieredStore::vacate(std::span<const ExpertId> experts) {
  for (const ExpertId id : experts) {
    host_.leave(id);
    stay_bytes_ -= slot_of(id).held;
    memory_.vacate(std::exchange(slot_of(id), {}));
  }
}

// Waits for what is on its way and forgets it; those that were to stay and did not come are not there.
void TieredStore::abandon(int layer, std::span<const ExpertCache::Miss> left, std::span<const ExpertId> taken_in) {
  size_t number = 0;
  while (queue_.in_flight() > 0) {
    try {
      queue_.next(number);
    } catch (const Error&) {
    }
  }
  for (Transit& transit : transits_) transit.state = Transit::State::Free;
  for (auto& experts : certain_LE_) experts.clear();
  for (const ExpertId id : taken_in) host_.leave(id);
  for (const ExpertCache::Miss& miss : left) {
    if (!miss.stays) continue;
    if (miss.low_is_here) vacate({{*cache_.low_copy_of({layer, miss.expert})}});
    cache_.lose({layer, miss.expert});
  }
  expected_.clear();
}

// Waits until nothing is on its way; nobody has asked for it.
void TieredStore::finish_reads() {
  for (Transit& transit : transits_) {
    transit.reader = Transit::For::Nobody;
    if (transit.state == Transit::State::Here) release(transit);
  }
  while (queue_.in_flight() > 0) take_read(true);
}

void TieredStore::use_room(size_t bytes, size_t bytes_for_reads) {
  finish_reads();
  for (; transits_.size() > options_.reads; transits_.pop_back()) {
    if (!options_.in_place) HugeMemory::give_back({transits_.back().raw, most_bytes_as_read_});
    memory_.vacate(transits_.back().slot);
  }
  vacate(cache_.use_room(bytes));
  memory_.keep_vacant(bytes - stay_bytes_);
  const size_t most = std::min(bytes_for_reads, options_.room - bytes) / bytes_a_read();
  while (transits_.size() < options_.reads + std::min(options_.more_reads, most)) add_transit();
}

void TieredStore::assume_read_rate(double bytes_per_second) {
  read_ahead_.learn_read(static_cast<double>(most_bytes_as_read_) / bytes_per_second);
}

double TieredStore::measure_read_rate(double duration) {
  std::vector<ExpertId> all;
  for (size_t l = 0; l < parts_LE_.size(); ++l) {
    for (size_t e = 0; e < parts_LE_[l].size(); ++e) all.push_back({static_cast<int>(l), static_cast<int>(e)});
  }
  const StoreStatistics before = statistics_;
  Random random(1);
  const Clock::time_point begin = Clock::now();
  size_t experts = 0;
  try {
    for (bool wanted = true; wanted || queue_.in_flight() > 0; wanted = seconds(Clock::now() - begin) < duration) {
      for (Transit* transit; wanted && (transit = free_transit()) != nullptr; ++experts) {
        start(*transit, {all[random.below(all.size())]}, Transit::For::Visit);
      }
      take_read(true);
      for (Transit& transit : transits_) {
        if (transit.state == Transit::State::Here) release(transit);
      }
    }
  } catch (...) {
    abandon(0, {}, {});
    throw;
  }
  const double passed = seconds(Clock::now() - begin);
  const double rate = static_cast<double>(statistics_.bytes_read - before.bytes_read) / passed;
  read_ahead_.learn_read(passed / static_cast<double>(experts));
  statistics_ = before;
  return rate;
}

// Those that are missing and not on their way yet, in the order in which they lie on the disk.
std::vector<TieredStore::ToRead> TieredStore::still_to_read(int layer, const ExpertCache::Visit& visit) {
  std::vector<ToRead> to_read;
  for (const ExpertCache::Miss& miss : visit.missing) {
    const ExpertId id{layer, miss.expert};
    if (transit_of(id) == nullptr) to_read.push_back({id, options_.in_planes && miss.low_is_here ? size_t{1} : size_t{0}});
  }
  std::ranges::sort(to_read, {}, [&](const ToRead& expert) {
    const FilePart& first = parts_of(expert.id)[expert.parts_here];
    return std::pair(first.file, first.offset);
  });
  return to_read;
}

// Those that this visit waits for and that are whole.
std::vector<TieredStore::Transit*> TieredStore::arrived() {
  while (take_read(false)) {
  }
  std::vector<Transit*> whole;
  for (Transit& transit : transits_) {
    if (transit.state == Transit::State::Here && transit.reader == Transit::For::Visit) whole.push_back(&transit);
  }
  return whole;
}

void TieredStore::visit(int layer, std::span<const Demand> demands, size_t tokens, const Use& use_them) {
  const ExpertCache::Visit visit = cache_.visit(layer, demands, tokens);
  statistics_.hits += visit.here.size();
  statistics_.misses += visit.missing.size();
  disk_is_free_ = false;
  sort_out_expected(layer, tokens, visit);
  predict(layer, demands, tokens);

  const std::vector<ToRead> to_read = still_to_read(layer, visit);
  size_t started = 0;
  const auto start_more = [&] {
    for (Transit* transit; started < to_read.size() && (transit = free_transit()) != nullptr; ++started) {
      start(*transit, to_read[started], Transit::For::Visit);
    }
    disk_is_free_ = started == to_read.size();
    if (disk_is_free_) start_expected();
  };

  std::vector<ExpertCache::Miss> left = visit.missing;
  std::span<const ExpertId> leaving = visit.leaving;  // and not gone
  std::vector<ExpertId> taken_in;  // and not settled
  disk_idle_since_ = Clock::now();
  try {
    // First what is in memory, with what was read ahead; then what comes, as it comes
    std::vector<int> these = visit.here;
    for (bool first = true; first || !left.empty();) {
      start_more();
      const std::vector<Transit*> here = arrived();
      if (here.empty() && !first) {
        take_read(true);
        continue;
      }
      if (!here.empty() && here.size() == left.size()) disk_idle_since_ = Clock::now();
      std::vector<Arrival> arrivals;
      for (const Transit* transit : here) arrivals.push_back({transit->id, transit->parts, transit->slot.data});
      host_.arrive(arrivals);
      for (const Arrival& arrival : arrivals) {
        taken_in.push_back(arrival.id);
        these.push_back(arrival.id.expert);
      }
      use_them(these);
      vacate(std::exchange(leaving, {}));
      for (Transit* transit : here) {
        const auto miss = std::ranges::find(left, transit->id.expert, &ExpertCache::Miss::expert);
        settle(*transit, *miss);
        left.erase(miss);
      }
      these.clear();
      taken_in.clear();
      first = false;
    }
    if (options_.predictor == Predictor::Certain) expect_certain();  // some of it may just have made room
    start_more();
  } catch (...) {
    vacate(leaving);
    abandon(layer, left, taken_in);
    throw;
  }
}

}  // namespace moiety::store
