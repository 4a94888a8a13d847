// A rank's share of a checkpoint's files, written by a thread of its own straight from the state while forward and backward leave that as it
// is. What the disk has not taken when the state is to change is copied first: no copy of the state is held where the disk keeps up.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "comm/group.h"
#include "train/part.h"

namespace moiety::train {

struct WrittenTensor {
  TensorPart tensor;
  Part numbers;      // of those here, what is written
  size_t begin = 0;  // of the tensor in the file, in bytes
};

struct WrittenFile {
  fs::path path;
  std::string text;  // what stands at the beginning; empty: another rank writes it
  std::vector<WrittenTensor> tensors = {};
};

class ShareWriter {
 public:
  // What is not `may_copy` is waited for in place of a copy: state that is too large for memory.
  ShareWriter(std::vector<WrittenFile> files, bool may_copy);
  // Ends soon, whatever has been written.
  ~ShareWriter();
  ShareWriter(const ShareWriter&) = delete;
  ShareWriter& operator=(const ShareWriter&) = delete;

  // Returns when the tensors are no longer looked at.
  void let_go();
  bool has_ended() const { return has_ended_; }
  void wait();
  // Once it has ended: why not all is on disk.
  const std::optional<std::string>& failure() const { return failure_; }

 private:
  struct Kept {
    size_t file, at;
    std::vector<float> numbers;
  };
  void run();
  void write();

  std::vector<WrittenFile> files_;
  const bool may_copy_;
  std::atomic<bool> is_over_ = false, is_to_copy_ = false, has_ended_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_let_go_ = false;  // guarded
  std::optional<std::string> failure_;
  std::thread thread_;  // begins last
};

// Which of the tensors' numbers this rank writes, so that all are written once, and each rank writes about as many as any other that has as
// much. Collective.
std::vector<Part> share_of(const std::vector<TensorPart>& tensors, comm::Group* ranks);

}  // namespace moiety::train
