// Where experts live while a model runs. The engine asks for those that a layer's tokens chose and is handed them as they are
// there; whether they always were, or came from the disk a moment ago, is the store's affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/huge_memory.h"
#include "base/read_queue.h"
#include "store/cache_policy.h"

namespace moiety::store {

struct ExpertId {
  int layer = 0, expert = 0;
};

// Bytes of an expert in a file.
struct FilePart {
  size_t file = 0;  // number in the store's list
  uint64_t offset = 0;
  size_t bytes = 0;
};

// Bytes of memory that such parts take while they are read: whole pages.
size_t bytes_as_read(std::span<const FilePart> parts);

class ExpertStore {
 public:
  // Told of some of the experts that were asked for, or of none, all of them in memory until it returns.
  using Use = std::function<void(std::span<const int> experts)>;

  virtual ~ExpertStore() = default;
  // Hands over each of these experts of a layer exactly once, in parts: at once those that are there, if any. Throws what `use` throws,
  // and Error(Io) if an expert can't be read; the store is as good as before then.
  virtual void visit(int layer, std::span<const int> experts, const Use& use) = 0;
};

// All experts are in memory.
class ResidentStore : public ExpertStore {
 public:
  void visit(int, std::span<const int> experts, const Use& use) override { use(experts); }
};

// An expert that was read: its parts, in the order in which the store was told of them, and the slot that it may stay in.
struct Arrival {
  ExpertId id;
  std::vector<const std::byte*> parts;
  std::byte* slot;
};

// Who knows what an expert's bytes are.
class ExpertHost {
 public:
  virtual ~ExpertHost() = default;
  // Makes of their bytes what is computed with, in their slots; the bytes as they were read are gone afterwards.
  virtual void arrive(std::span<const Arrival> arrivals) = 0;
  // Its slot is given to another.
  virtual void leave(ExpertId id) = 0;
};

// What happened so far.
struct StoreStatistics {
  uint64_t hits = 0, misses = 0;  // experts asked for that were there, or not
  uint64_t bytes_read = 0;
  double seconds_waited = 0;      // for the disk, with nothing else to do
};

// Some experts are in memory, in slots of the same size; the others are in files.
class TieredStore : public ExpertStore {
 public:
  struct Options {
    size_t slots = 0, slot_bytes = 0;
    CachePolicy policy = CachePolicy::Lfu;
    size_t reads = 4;  // experts on their way at a time; no more than slots
    ReadEngine engine = ReadEngine::Best;
  };
  // parts_LE[layer][expert]; empty where a layer has no experts.
  TieredStore(std::span<const fs::path> files, std::vector<std::vector<std::vector<FilePart>>> parts_LE, ExpertHost& host,
              const Options& options);

  void visit(int layer, std::span<const int> experts, const Use& use) override;
  const StoreStatistics& statistics() const { return statistics_; }

  // Bytes a second that come when nothing but experts is read, from all over the files, for about so long. Not during a visit.
  double measure_read_rate(double seconds);

 private:
  static constexpr size_t kNone = SIZE_MAX;
  struct Slot {
    ExpertId id;
    bool used = false, pinned = false;
    ExpertUse use;
    std::byte* memory = nullptr;
  };
  // An expert on its way.
  struct Staging {
    ExpertId id;
    size_t parts_left = 0;
    std::byte* memory = nullptr;
    std::vector<const std::byte*> parts;
  };

  bool start(ExpertId id);
  bool take_arrival(bool wait, std::vector<size_t>& arrived);
  void settle(std::span<const size_t> arrived);
  void choose_victims(size_t wanted);
  size_t free_slot();
  void hand_over(int layer, std::span<const int> experts, const Use& use);
  void abandon();

  std::vector<DirectFile> files_;
  std::vector<std::vector<std::vector<FilePart>>> parts_LE_;
  ExpertHost& host_;
  Options options_;
  HugeMemory memory_;
  std::vector<Slot> slots_;
  std::vector<std::vector<size_t>> slot_of_LE_;  // kNone: not in memory
  std::vector<size_t> victims_;  // slots that are free or to be given away, the next one last
  std::vector<Staging> staging_;
  std::vector<size_t> free_staging_;
  size_t layer_ = 0;  // that was visited last
  uint64_t visits_ = 0;
  std::vector<uint64_t> visits_L_;
  StoreStatistics statistics_;
  ReadQueue queue_;  // last: it goes first, when nothing may be on its way into memory any more
};

}  // namespace moiety::store
