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

  // Calls body(i) once for each i < count, in any order, on any thread; returns when all are done. Each thread begins with
  // a run of indices of its own, one after the other, and takes from what others have left when it is through; so what
  // lies side by side is mostly read by one thread, and one that does not get a processor in time is not waited for. The
  // first exception is thrown again here. Not to be called from a body.
  void parallel_for(size_t count, const std::function<void(size_t)>& body);

  // NUMA nodes that have memory of their own to place data in; 1 on most machines.
  int num_nodes() const { return num_nodes_; }

  // parallel_for over counts[0] + counts[1] + … indices, of which the first counts[0] belong to node 0, the next
  // counts[1] to node 1, and so on (num_nodes() counts): a thread helps with what belongs to its own node first, with the
  // others' then. What is written by one such loop lies near the threads that read it in the next with the same counts.
  void parallel_for_by_node(std::span<const size_t> counts, const std::function<void(size_t)>& body);

 private:
  // The indices of one thread that nobody has taken yet. A cache line each: others come here last.
  struct alignas(64) Share {
    std::atomic<size_t> next{0};
    size_t end = 0;  // constant during a round
  };
  // Where a thread works: its node, and its share among those of all threads.
  struct Place {
    int node;
    size_t share;
  };

  void work(Place place);
  uint32_t wait_for_round_after(uint32_t seen);
  // Gives shares [first, last) equal parts of the indices from `begin` on.
  void hand_out(size_t first, size_t last, size_t begin, size_t count);
  void run(const std::function<void(size_t)>& body, size_t count);
  void open_round();
  void run_shares(Place place);

  int num_nodes_;
  Place caller_;
  bool may_spin_;  // constant after construction

  const std::function<void(size_t)>* body_ = nullptr;  // constant during a round
  std::unique_ptr<Share[]> shares_;
  std::vector<size_t> first_share_N1_;  // of each node's, which has one at least, and their number

  // The round's number, whether workers may still join it, and how many have joined and not left (thread_pool.cc).
  alignas(64) std::atomic<uint32_t> gate_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};

  std::mutex error_mutex_;
  std::exception_ptr error_;  // guarded by error_mutex_ during a round

  std::vector<std::thread> workers_;
};

}  // namespace moiety
