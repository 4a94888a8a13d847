// Threads that run one parallel loop at a time. Which thread runs which index never changes a result: callers give
// every index its own output.
//
// Workers that wait for the next loop spin for some tens of microseconds, so that the loops of one forward pass follow
// each other without a system call, then sleep. A pool that takes every core pins each worker to one; a smaller pool
// leaves its place to the system, but keeps each worker on its NUMA node. The caller's thread is never pinned.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/topology.h"

namespace moiety {

class ThreadPool {
 public:
  // `threads` counts the caller too; 0 means Topology::default_threads(). The caller of every loop counts as a thread of
  // the node that it runs on now.
  explicit ThreadPool(int threads = 0, const Topology& topology = this_machine());
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(i) once for each i < count, in any order, on any thread; returns when all are done. Indices are handed
  // out one by one as threads become free; a thread that does not get a processor in time is not waited for. The first
  // exception is thrown again here. Not to be called from a body.
  void parallel_for(size_t count, const std::function<void(size_t)>& body);

  // NUMA nodes that have memory of their own to place data in; 1 on most machines.
  int num_nodes() const { return num_nodes_; }

  // parallel_for over counts[0] + counts[1] + … indices, of which the first counts[0] belong to node 0, the next
  // counts[1] to node 1, and so on (num_nodes() counts): a thread takes what belongs to its own node first and helps the
  // others then. What is written by one such loop lies near the threads that read it in the next with the same counts.
  void parallel_for_by_node(std::span<const size_t> counts, const std::function<void(size_t)>& body);

 private:
  // The indices of one node that no thread has taken yet. A cache line each: threads of other nodes come here last.
  struct alignas(64) Share {
    std::atomic<size_t> next{0};
    size_t end = 0;  // constant during a round
  };

  void work(int node);
  uint32_t wait_for_round_after(uint32_t seen);
  void open_round();
  void run_shares(int node);

  int num_nodes_, caller_node_;
  bool may_spin_;  // constant after construction

  const std::function<void(size_t)>* body_ = nullptr;  // constant during a round
  size_t num_shares_ = 0;                              // constant during a round
  std::unique_ptr<Share[]> shares_;

  // The round's number, whether workers may still join it, and how many have joined and not left (thread_pool.cc).
  alignas(64) std::atomic<uint32_t> gate_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};

  std::mutex error_mutex_;
  std::exception_ptr error_;  // guarded by error_mutex_ during a round

  std::vector<std::thread> workers_;
};

}  // namespace moiety
