#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>

namespace moiety {
namespace {

// Long enough to bridge the gap between two loops of one forward pass, short enough not to heat an idle machine.
constexpr int kSpins = 4000;

int hardware_threads() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
  return std::max(1u, std::thread::hardware_concurrency());
}

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = hardware_threads();
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_share() {
  try {
    for (size_t i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1)) (*body_)(i);
  } catch (...) {
    next_.store(count_);
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::work() {
  uint64_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < kSpins && round_.load() == seen; ++spin) pause();
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || round_.load() != seen; });
      if (stopping_) return;
      seen = round_.load();
      if (!open_) continue;  // the others were faster
      busy_.fetch_add(1);
    }
    run_share();
    busy_.fetch_sub(1);
  }
}

void ThreadPool::parallel_for(size_t count, const std::function<void(size_t)>& body) {
  if (count == 0) return;
  if (workers_.empty() || count == 1) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    body_ = &body;
    count_ = count;
    next_.store(0);
    open_ = true;
    error_ = nullptr;
    round_.fetch_add(1);
  }
  wake_.notify_all();
  run_share();
  {
    std::lock_guard lock(mutex_);
    open_ = false;
  }
  for (int spin = 0; busy_.load() != 0; ++spin) {
    if (spin < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
  if (error_) std::rethrow_exception(error_);
}

}  // namespace moiety
