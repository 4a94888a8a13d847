// Some experts are in memory, each taking what it needs; the others are in files and come when they are asked for, or a little
// before.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "base/huge_memory.h"
#include "base/read_queue.h"
#include "store/expert_cache.h"
#include "store/expert_store.h"
#include "store/path_table.h"
#include "store/read_ahead.h"
#include "store/slot_memory.h"

namespace moiety::store {

// Bytes of an expert in a file.
struct FilePart {
  size_t file = 0;  // number in the store's list
  uint64_t offset = 0;
  size_t bytes = 0;
};

// Bytes of memory that such parts take while they are read: whole pages.
size_t bytes_as_read(std::span<const FilePart> parts);

// An expert that was read: its parts, in the order in which the store was told of them (of one whose upper plane is in memory, those
// after the first), and the memory that it is computed with from.
struct Arrival {
  ExpertId id;
  std::vector<const std::byte*> parts;
  std::byte* slot;
};

// Who knows what an expert's bytes are.
class ExpertHost {
 public:
  virtual ~ExpertHost() = default;
  // Makes of their bytes what is computed with, in their slots; the bytes as they were read are gone afterwards, unless they are
  // in the slot already. Throws Error(Io) if they are not what they should be.
  virtual void arrive(std::span<const Arrival> arrivals) = 0;
  // Its slot is given to another.
  virtual void leave(ExpertId id) = 0;
};

// What happened so far.
struct StoreStatistics {
  uint64_t hits = 0, misses = 0;  // experts asked for that were there, or not
  uint64_t bytes_read = 0;
  uint64_t expected = 0, expected_right = 0;  // experts not in memory that were expected, and of them those that were asked for
  uint64_t expected_missing = 0;              // all that were asked for and not in memory, in layers of which something was expected
  uint64_t read_ahead = 0;                    // experts whose reading began before they were asked for
  uint64_t bytes_wasted = 0;                  // read ahead for nothing
  double seconds_waited = 0;                  // for the disk, with nothing else to do
  uint64_t upgrades = 0;                      // experts whose upper planes were in memory, so that only the lower ones were read
  uint64_t bytes_spared = 0;                  // of those upper planes

  StoreStatistics operator-(const StoreStatistics& before) const;
};

// Who says which experts will be asked for in the next layer.
enum class Predictor {
  None,
  Previous,  // those that were asked for last, or often lately
  Path,      // those that followed this layer's (path_table.h)
  Caller,    // whoever calls expect()
  Certain,   // the same, who knows: read as soon as the disk has nothing else to do, also for layers after the next
};

class TieredStore : public ExpertStore {
 public:
  struct Options {
    size_t room = 0;  // bytes, for experts that stay
    std::vector<std::vector<size_t>> bytes_LE = {};  // that each takes as it is computed with
    bool in_place = false;  // what is read is computed with as it is: it is read into slots
    CachePolicy policy = CachePolicy::Auto;
    std::vector<ExpertId> pinned = {};
    size_t reads = 4;       // experts on their way, or being taken in, at a time
    size_t more_reads = 0;  // and so many more, at most, where those that stay give room
    Predictor predictor = Predictor::Caller;
    ReadEngine engine = ReadEngine::Best;
    // Half of a layer's experts are the others' copies of low precision, in the same order (ExpertCache::Options); in planes a copy
    // is the first of its expert's parts.
    bool has_low = false, in_planes = false;
  };
  // parts_LE[layer][expert]; empty where a layer has no experts.
  TieredStore(std::span<const fs::path> files, std::vector<std::vector<std::vector<FilePart>>> parts_LE, ExpertHost& host,
              const Options& options);

  void visit(int layer, std::span<const Demand> demands, size_t tokens, const Use& use) override;
  void expect(int layer, std::span<const int> experts) override;
  bool has(ExpertId id) const override { return cache_.has(id); }

  // From now on experts that stay have this much room, and of what is left so much may serve to have more on their way at a time: a
  // prompt keeps processors busy for longer than a few reads last. The rest is the system's until it is used again. Not during a
  // visit.
  void use_room(size_t bytes, size_t bytes_for_reads = 0);
  // That one more expert on its way takes.
  size_t bytes_a_read() const { return most_bytes_ + (options_.in_place ? 0 : most_bytes_as_read_); }

  const StoreStatistics& statistics() const { return statistics_; }
  const ExpertCache& cache() const { return cache_; }

  // What the disk gives, where that is known; until it is known or measured nothing is read ahead.
  void assume_read_rate(double bytes_per_second);
  // Bytes a second that come when nothing but experts is read, from all over the files, for about so long. Not during a visit.
  double measure_read_rate(double seconds);

 private:
  using Clock = std::chrono::steady_clock;
  // An expert on its way: memory for its bytes, and a slot that it is computed with from; the same if that is all one.
  struct Transit {
    enum class State { Free, Coming, Here } state = State::Free;
    ExpertId id;
    enum class For { Visit, Guess, Nobody } reader = For::Nobody;  // Nobody: it was a wrong guess
    size_t reads_left = 0;
    size_t bytes = 0;
    std::byte* raw = nullptr;
    SlotMemory::Slot slot;
    std::vector<const std::byte*> parts;
  };

  const std::vector<FilePart>& parts_of(ExpertId id) const;
  void add_transit();
  Transit* free_transit();
  Transit* transit_of(ExpertId id);
  struct ToRead {
    ExpertId id;
    size_t parts_here = 0;  // in memory already, the first ones
  };
  void start(Transit& transit, const ToRead& expert, Transit::For reader);
  void set_expected(int layer, std::span<const int> experts);
  void add_expected(int layer, std::span<const int> experts);
  void expect_certain();
  int layer_after(int layer) const;
  void predict(int layer, std::span<const Demand> demands, size_t tokens);
  void start_expected();
  bool take_read(bool wait);
  void release(Transit& transit);
  void finish_reads();
  void sort_out_expected(int layer, size_t tokens, const ExpertCache::Visit& visit);
  std::vector<ToRead> still_to_read(int layer, const ExpertCache::Visit& visit);
  std::vector<Transit*> arrived();
  SlotMemory::Slot& slot_of(ExpertId id) { return slots_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)]; }
  void settle(Transit& transit, const ExpertCache::Miss& miss);
  void vacate(std::span<const ExpertId> experts);
  void abandon(int layer, std::span<const ExpertCache::Miss> left, std::span<const ExpertId> taken_in);

  std::vector<DirectFile> files_;
  std::vector<std::vector<std::vector<FilePart>>> parts_LE_;
  ExpertHost& host_;
  Options options_;
  ExpertCache cache_;
  size_t most_bytes_, most_bytes_as_read_;  // that an expert takes
  SlotMemory memory_;
  std::vector<std::vector<SlotMemory::Slot>> slots_LE_;  // of those that stay
  size_t stay_bytes_ = 0;                                // these
  HugeMemory raw_memory_;
  std::byte* raws_ = nullptr;  // of transits, one after the other
  std::vector<Transit> transits_;
  // Of the layer that is visited next (and of certain ones of those after it), not in memory, the likeliest first; how many of them are to be read ahead, and how many
  // of these were started.
  std::vector<ExpertId> expected_;
  size_t expected_started_ = 0, expected_limit_ = 0;
  bool disk_is_free_ = false;  // all that this visit needs is on its way
  std::vector<std::vector<int>> certain_LE_;  // that will be asked for in layers to come, whether in memory or not
  PathTable paths_;
  std::vector<Demand> last_demands_;  // of one token, in layer last_layer_
  int last_layer_ = -1;
  ReadAhead read_ahead_;
  Clock::time_point disk_idle_since_{};  // but for what is read ahead
  StoreStatistics statistics_;
  ReadQueue queue_;  // last: it goes first, when nothing may be on its way into memory any more
};

}  // namespace moiety::store
