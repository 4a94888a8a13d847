// Reads of files past the page cache, several in flight at once: io_uring with O_DIRECT where the system allows both. Where it
// refuses io_uring, threads read; where a file system refuses O_DIRECT, the page cache is read through and told to forget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/file.h"

namespace moiety {

// A file open for a ReadQueue.
class DirectFile {
 public:
  // Of offsets, lengths and addresses of reads.
  static constexpr size_t kAlignment = 4096;
  static constexpr size_t whole_pages(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  // Throws Error(Io) if it can't be opened.
  explicit DirectFile(const fs::path& path);
  ~DirectFile();
  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&&) = delete;

  const fs::path& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  bool is_direct() const { return is_direct_; }
  // Throws Error(Io) if its bytes are not those of the moment when it was opened any more, going by its size and time of change.
  void refuse_changes() const;

 private:
  fs::path path_;
  int descriptor_ = -1;
  bool is_direct_ = false;
  int64_t size_ = 0, changed_seconds_ = 0, changed_nanoseconds_ = 0;
};

// How a ReadQueue reads.
enum class ReadEngine {
  Best,     // io_uring, else threads
  Threads,
};

class ReadQueue {
 public:
  struct Read {
    const DirectFile* file = nullptr;
    uint64_t offset = 0;
    std::span<std::byte> to;  // the last read of a file may ask for more than there is
    size_t needed = 0;        // bytes that must come
    size_t tag = 0;           // says which it was when it is done
  };

  // `depth` reads at most are in flight, each of any length.
  explicit ReadQueue(size_t depth, ReadEngine engine = ReadEngine::Best);
  ~ReadQueue();  // waits for what is in flight

  size_t depth() const { return depth_; }
  size_t in_flight() const { return in_flight_; }
  // Needs in_flight() < depth(). The memory must stay until the read is done.
  void submit(const Read& read);
  // Waits until a read is done, or with `wait` false looks only. Returns false if there is none. Throws Error(Io) if one
  // failed or came too short; it counts as done.
  bool next(size_t& tag, bool wait = true);

  struct Engine;

 private:
  size_t depth_, in_flight_ = 0;
  std::unique_ptr<Engine> engine_;
};

}  // namespace moiety
