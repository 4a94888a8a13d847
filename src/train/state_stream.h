// Optimizer state in groups of bytes that a step visits one after the other. What doesn't fit in memory lies in a scratch file, and the
// next groups are read while the present one is updated and the last ones are written (Maurya et al. 2024, "Deep Optimizer States").
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/matrix.h"

namespace moiety::train {

// Groups that go through the file take turns in so many places in memory: one that is updated, one that is written, two that are read.
constexpr size_t kStreamPlaces = 4;

// Memory for direct reads and writes: whole pages that begin where a page does, zeros at first.
class PageBuffer {
 public:
  static constexpr size_t kPage = 4096;
  static constexpr size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

  explicit PageBuffer(size_t bytes) : memory_(1, whole_pages(bytes) + kPage) {
    const auto all = memory_.flat();
    bytes_ = all.subspan((kPage - reinterpret_cast<uintptr_t>(all.data()) % kPage) % kPage, whole_pages(bytes));
  }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  Matrix<std::byte> memory_;
  std::span<std::byte> bytes_;
};

// Which groups stay in memory so that all, with the places for the others, takes at most `budget` bytes (or the places alone, if they
// are more): every group if all fit, else as many as do, spread evenly, so that their updates hide the reads and writes of the others.
std::vector<bool> resident_groups(std::span<const size_t> bytes_G, size_t budget);

// Of all visits so far, in seconds.
struct StreamTimes {
  double visits = 0;       // all of it: updates, and waiting
  double waited = 0;       // for groups that had not come yet
  double read = 0, write = 0;  // by the threads that read and write, several at a time
  size_t bytes_read = 0, bytes_written = 0;

  // What a faster one of would make visits shorter: "update", "read" or "write".
  const char* binding() const;
};

enum class Transfers {
  Interleaved,  // with updates
  Blocking,     // each is waited for before the next update: what interleaving is measured against
};

class StateStream {
 public:
  // State begins as zeros. The file is made in `folder` and has no name once it is open: nothing is left of it however the process
  // ends. It is not made if all fits in memory. Throws Error(Io) if the disk has no room for it.
  StateStream(const std::vector<size_t>& bytes_G, size_t budget, const fs::path& folder, Transfers transfers = Transfers::Interleaved);
  ~StateStream();
  StateStream(const StateStream&) = delete;
  StateStream& operator=(const StateStream&) = delete;

  size_t groups() const { return groups_.size(); }
  size_t bytes_of(size_t group) const { return groups_[group].bytes; }
  size_t streamed() const { return streamed_.size(); }
  size_t memory_bytes() const;
  const StreamTimes& times() const { return times_; }

  // update(group, state) once for each group, forwards in one call and backwards in the next: what came last is still there.
  void visit(const std::function<void(size_t group, std::span<std::byte> state)>& update);

  // Between visits; `bytes` are all of the group.
  void read(size_t group, std::span<std::byte> bytes) const;
  void write(size_t group, std::span<const std::byte> bytes);

 private:
  class File;
  struct Exchange {
    double write = 0, read = 0;  // seconds
  };
  struct Group {
    size_t bytes = 0;
    bool is_resident = true;
    size_t turn = 0;        // number among the streamed ones: its place is turn % kStreamPlaces
    size_t offset = 0;      // in the file
  };
  struct Place {
    PageBuffer memory;
    size_t group = 0;             // whose state it holds, or will once `coming` is done
    std::future<Exchange> coming;
  };

  std::span<std::byte> arrive(const Group& group);
  void exchange(Place& place, size_t leaves, size_t comes);

  std::vector<Group> groups_;
  std::vector<size_t> streamed_;  // groups, by turn
  std::vector<Matrix<std::byte>> resident_;
  std::unique_ptr<File> file_;
  std::vector<Place> places_;
  Transfers transfers_;
  bool backwards_ = false;
  StreamTimes times_;
};

}  // namespace moiety::train
