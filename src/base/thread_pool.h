// Threads that run one parallel loop at a time. Which thread runs which index never changes a result: callers give
// every index its own output.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace moiety {

class ThreadPool {
 public:
  // `threads` counts the caller too; 0 means one a hardware thread this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(i) once for each i < count, in any order, on any thread; returns when all are done. Indices are handed
  // out one by one as threads become free; a thread that does not get a processor in time is not waited for. The first exception is thrown again here. Not to be called from a body.
  void parallel_for(size_t count, const std::function<void(size_t)>& body);

 private:
  void work();
  void run_share();

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // guarded by mutex_
  bool open_ = false;      // guarded by mutex_: workers may still join this round

  std::atomic<uint64_t> round_{0};  // grows by one a loop; workers wait for it to change
  const std::function<void(size_t)>* body_ = nullptr;  // constant during a round
  size_t count_ = 0;                                   // constant during a round
  std::atomic<size_t> next_{0};
  std::atomic<int> busy_{0};  // workers that joined this round and have not finished; grows under mutex_
  std::exception_ptr error_;  // guarded by mutex_
};

}  // namespace moiety
