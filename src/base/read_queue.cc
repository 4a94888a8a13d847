#include "base/read_queue.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace moiety {
namespace {

// Some file systems open for direct reads and then refuse to read.
bool can_read(int descriptor) {
  alignas(DirectFile::kAlignment) std::byte page[DirectFile::kAlignment];
  return ::pread(descriptor, page, sizeof page, 0) >= 0 || errno != EINVAL;
}

}  // namespace

DirectFile::DirectFile(const fs::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  is_direct_ = descriptor_ >= 0 && can_read(descriptor_);
  if (descriptor_ >= 0 && !is_direct_) ::close(std::exchange(descriptor_, -1));
  if (!is_direct_) descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) fail(ErrorKind::Io, "{}: {}", path.string(), std::strerror(errno));
  size_ = status.st_size;
  changed_seconds_ = status.st_mtim.tv_sec;
  changed_nanoseconds_ = status.st_mtim.tv_nsec;
}

void DirectFile::refuse_changes() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) == 0 && status.st_size == size_ && status.st_mtim.tv_sec == changed_seconds_ &&
      status.st_mtim.tv_nsec == changed_nanoseconds_) {
    return;
  }
  fail(ErrorKind::Io, "{}: the file was changed while it was in use; start again with the new one", path_.string());
}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      is_direct_(other.is_direct_),
      size_(other.size_),
      changed_seconds_(other.changed_seconds_),
      changed_nanoseconds_(other.changed_nanoseconds_) {}

struct ReadQueue::Engine {
  // What is left of a read, and how it ended.
  struct Pending {
    ReadQueue::Read read;
    size_t done = 0;  // bytes
    int error = 0;    // errno

    std::byte* to() const { return read.to.data() + done; }
    size_t left() const { return read.to.size() - done; }
    uint64_t offset() const { return read.offset + done; }
    // Takes in what one system call returned; returns whether there must be another.
    bool goes_on(ssize_t result) {
      if (result < 0) {
        if (-result == EINTR || -result == EAGAIN) return true;
        error = static_cast<int>(-result);
        return false;
      }
      done += static_cast<size_t>(result);
      return result > 0 && done < read.needed && done % DirectFile::kAlignment == 0;
    }
  };

  virtual ~Engine() = default;
  virtual void start(size_t slot) = 0;
  // A read that is done; -1 if none is and nobody wants to wait.
  virtual ptrdiff_t finished(bool wait) = 0;

  std::vector<Pending> reads;  // a slot for each that may be in flight
  std::vector<size_t> free;
};

namespace {

class Uring : public ReadQueue::Engine {
 public:
  explicit Uring(size_t depth) { is_open_ = io_uring_queue_init(static_cast<unsigned>(depth), &ring_, 0) == 0; }
  ~Uring() override {
    if (is_open_) io_uring_queue_exit(&ring_);
  }
  bool works() {
    io_uring_probe* const probe = is_open_ ? io_uring_get_probe_ring(&ring_) : nullptr;
    const bool reads_files = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ);
    io_uring_free_probe(probe);
    return reads_files;
  }

  void start(size_t slot) override {
    Pending& pending = reads[slot];
    if (refused_ != 0) return refuse(slot);
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    io_uring_prep_read(entry, pending.read.file->descriptor(), pending.to(), static_cast<unsigned>(pending.left()),
                       pending.offset());
    io_uring_sqe_set_data64(entry, slot);
    int status;
    do {
      status = io_uring_submit(&ring_);
    } while (status == -EINTR || status == -EAGAIN || status == -EBUSY);
    if (status >= 0) return;
    refused_ = -status;  // for good: what was prepared stays in the ring
    refuse(slot);
  }
  ptrdiff_t finished(bool wait) override {
    for (;;) {
      if (!failed_.empty()) {
        const size_t slot = failed_.back();
        failed_.pop_back();
        return static_cast<ptrdiff_t>(slot);
      }
      io_uring_cqe* entry = nullptr;
      const int status = wait ? io_uring_wait_cqe(&ring_, &entry) : io_uring_peek_cqe(&ring_, &entry);
      if (status == -EINTR || (wait && status == -EAGAIN)) continue;
      if (status < 0 || entry == nullptr) return -1;
      const size_t slot = io_uring_cqe_get_data64(entry);
      const ssize_t result = entry->res;
      io_uring_cqe_seen(&ring_, entry);
      if (!reads[slot].goes_on(result)) return static_cast<ptrdiff_t>(slot);
      start(slot);
    }
  }

 private:
  void refuse(size_t slot) {
    reads[slot].error = refused_;
    failed_.push_back(slot);
  }

  io_uring ring_{};
  bool is_open_ = false;
  int refused_ = 0;             // why reads can't be submitted any more
  std::vector<size_t> failed_;  // those that could not
};

class Readers : public ReadQueue::Engine {
 public:
  explicit Readers(size_t depth) {
    constexpr size_t kMost = 4;
    for (size_t i = 0; i < std::min(depth, kMost); ++i) threads_.emplace_back([this] { work(); });
  }
  ~Readers() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wanted_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  void start(size_t slot) override {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(slot);
    }
    wanted_.notify_one();
  }
  ptrdiff_t finished(bool wait) override {
    std::unique_lock lock(mutex_);
    if (wait) done_.wait(lock, [&] { return !finished_.empty(); });
    if (finished_.empty()) return -1;
    const size_t slot = finished_.front();
    finished_.pop_front();
    return static_cast<ptrdiff_t>(slot);
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const size_t slot = queue_.front();
      queue_.pop_front();
      Pending& pending = reads[slot];
      lock.unlock();
      ssize_t result;
      do {
        result = ::pread(pending.read.file->descriptor(), pending.to(), pending.left(), static_cast<off_t>(pending.offset()));
        if (result < 0) result = -errno;
      } while (pending.goes_on(result));
      lock.lock();
      finished_.push_back(slot);
      lock.unlock();
      done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wanted_, done_;
  std::deque<size_t> queue_, finished_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

std::unique_ptr<ReadQueue::Engine> make_engine(size_t depth, ReadEngine engine) {
  if (engine == ReadEngine::Best) {
    auto uring = std::make_unique<Uring>(depth);
    if (uring->works()) return uring;
  }
  return std::make_unique<Readers>(depth);
}

}  // namespace

ReadQueue::ReadQueue(size_t depth, ReadEngine engine) : depth_(depth), engine_(make_engine(depth, engine)) {
  engine_->reads.resize(depth);
  for (size_t slot = depth; slot-- > 0;) engine_->free.push_back(slot);
}

ReadQueue::~ReadQueue() {
  for (; in_flight_ > 0; --in_flight_) engine_->finished(true);
}

void ReadQueue::submit(const Read& read) {
  assert(in_flight_ < depth_ && read.needed <= read.to.size());
  assert(read.offset % DirectFile::kAlignment == 0 && read.to.size() % DirectFile::kAlignment == 0);
  assert(reinterpret_cast<uintptr_t>(read.to.data()) % DirectFile::kAlignment == 0);
  const size_t slot = engine_->free.back();
  engine_->free.pop_back();
  engine_->reads[slot] = {read};
  ++in_flight_;
  engine_->start(slot);
}

bool ReadQueue::next(size_t& tag, bool wait) {
  if (in_flight_ == 0) return false;
  const ptrdiff_t slot = engine_->finished(wait);
  if (slot < 0) return false;
  const Engine::Pending pending = engine_->reads[static_cast<size_t>(slot)];
  engine_->free.push_back(static_cast<size_t>(slot));
  --in_flight_;
  tag = pending.read.tag;
  const DirectFile& file = *pending.read.file;
  if (pending.error != 0) {
    fail(ErrorKind::Io, "{}: reading {} bytes at {}: {}", file.path().string(), pending.read.needed, pending.read.offset,
         std::strerror(pending.error));
  }
  if (pending.done < pending.read.needed) {
    fail(ErrorKind::Io, "{}: ends at {}, where {} more bytes of weights were expected: was it replaced?", file.path().string(),
         pending.offset(), pending.read.needed - pending.done);
  }
  if (!file.is_direct()) {
    ::posix_fadvise(file.descriptor(), static_cast<off_t>(pending.read.offset), static_cast<off_t>(pending.read.to.size()),
                    POSIX_FADV_DONTNEED);
  }
  return true;
}

}  // namespace moiety
