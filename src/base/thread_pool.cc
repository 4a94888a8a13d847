#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cassert>
#include <chrono>

namespace moiety {
namespace {

// Long enough to bridge the gap between two loops of one forward pass, short enough not to heat an idle machine.
constexpr std::chrono::microseconds kSpin{100};

// The gate in one word: a worker joins a round by one compare-and-swap, which fails if the round was closed or another
// opened meanwhile.
constexpr uint32_t kBusy = 0x7fff;    // how many workers are in the round
constexpr uint32_t kOpen = 0x8000;    // more may join
constexpr uint32_t kRound = 0x10000;  // the bits from here on count rounds; they may wrap

uint32_t round_of(uint32_t gate) { return gate / kRound; }

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until `done()` says so or the time is over; returns what it said last.
template <class Done>
bool spin_until(const Done& done) {
  constexpr int kLooks = 32;  // between two looks at the clock
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int look = 0; look < kLooks; ++look) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

// Asks for the calling thread to stay on these processors. Refused (a faked machine, a changed mask): it stays free.
void keep_on(std::span<const int> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  }
  sched_setaffinity(0, sizeof set, &set);
}

// A core for each thread: the first is the one that the caller runs on, and the nodes take turns from there, so that few
// threads still draw on the memory of all nodes.
std::vector<Core> places_of(const Topology& topology, int threads) {
  const int cpu = sched_getcpu();
  const auto has_caller = [&](const std::vector<int>& cpus) { return std::find(cpus.begin(), cpus.end(), cpu) != cpus.end(); };
  const auto nodes = topology.num_nodes();
  const auto found = std::find_if(topology.nodes.begin(), topology.nodes.end(), has_caller);
  const int first = found == topology.nodes.end() ? 0 : static_cast<int>(found - topology.nodes.begin());

  std::vector<std::vector<Core>> cores(static_cast<size_t>(nodes));  // by node, counted from the caller's
  for (const Core& core : topology.cores) {
    auto& of_node = cores[static_cast<size_t>((core.node - first + nodes) % nodes)];
    of_node.insert(core.cpu == cpu ? of_node.begin() : of_node.end(), core);
  }
  std::vector<Core> turns;
  for (size_t turn = 0; turns.size() < topology.cores.size(); ++turn) {
    for (const auto& of_node : cores) {
      if (turn < of_node.size()) turns.push_back(of_node[turn]);
    }
  }
  std::vector<Core> places;
  for (int i = 0; i < threads; ++i) places.push_back(turns[static_cast<size_t>(i) % turns.size()]);
  return places;
}

}  // namespace

ThreadPool::ThreadPool(int threads, const Topology& topology) : num_nodes_(topology.num_nodes()) {
  if (threads <= 0) threads = topology.default_threads();
  threads = std::min(threads, static_cast<int>(kBusy));
  const size_t cores = topology.cores.size(), wanted = static_cast<size_t>(threads);
  const std::vector<Core> places = places_of(topology, threads);
  may_spin_ = wanted <= cores;  // else one that spins would keep another from its work

  std::vector<std::vector<size_t>> threads_of_node(static_cast<size_t>(num_nodes_));
  for (size_t i = 0; i < wanted; ++i) threads_of_node[static_cast<size_t>(places[i].node)].push_back(i);
  std::vector<size_t> share_of(wanted);
  first_share_N1_ = {0};
  for (const auto& on_it : threads_of_node) {
    for (size_t i = 0; i < on_it.size(); ++i) share_of[on_it[i]] = first_share_N1_.back() + i;
    first_share_N1_.push_back(first_share_N1_.back() + std::max<size_t>(1, on_it.size()));
  }
  shares_ = std::make_unique<Share[]>(first_share_N1_.back());
  caller_ = {places[0].node, share_of[0]};

  for (size_t i = 1; i < wanted; ++i) {
    const Place place{places[i].node, share_of[i]};
    std::vector<int> cpus;
    if (wanted == cores) cpus = {places[i].cpu};
    else if (num_nodes_ > 1) cpus = topology.nodes[static_cast<size_t>(place.node)];
    workers_.emplace_back([this, place, cpus] {
      if (!cpus.empty()) keep_on(cpus);
      work(place);
    });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  gate_.fetch_add(kRound);
  gate_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_shares(Place place) {
  const auto take_from = [&](size_t number) {
    Share& share = shares_[number];
    for (size_t i = share.next.fetch_add(1, std::memory_order_relaxed); i < share.end;
         i = share.next.fetch_add(1, std::memory_order_relaxed)) {
      (*body_)(i);
    }
  };
  try {
    for (int turn = 0; turn < num_nodes_; ++turn) {
      const size_t node = static_cast<size_t>((place.node + turn) % num_nodes_);
      const size_t first = first_share_N1_[node], count = first_share_N1_[node + 1] - first;
      const size_t own = turn == 0 ? place.share - first : 0;
      for (size_t i = 0; i < count; ++i) take_from(first + (own + i) % count);
    }
  } catch (...) {
    for (size_t number = 0; number < first_share_N1_.back(); ++number) shares_[number].next.store(shares_[number].end);
    std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

// The gate as it was when another round was seen.
uint32_t ThreadPool::wait_for_round_after(uint32_t seen) {
  uint32_t gate = 0;
  const auto changed = [&] {
    gate = gate_.load();
    return round_of(gate) != seen;
  };
  if (may_spin_ && spin_until(changed)) return gate;
  // open_round() changes the gate, then looks for sleepers; here it is the other way round: one of the two sees the other.
  sleepers_.fetch_add(1);
  while (!changed()) gate_.wait(gate);
  sleepers_.fetch_sub(1);
  return gate;
}

void ThreadPool::work(Place place) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t gate = wait_for_round_after(seen);
    if (stopping_.load()) return;
    seen = round_of(gate);
    while ((gate & kOpen) != 0) {
      if (!gate_.compare_exchange_weak(gate, gate + 1)) continue;
      seen = round_of(gate);
      run_shares(place);
      gate_.fetch_sub(1, std::memory_order_release);
      break;
    }
  }
}

void ThreadPool::open_round() {
  const uint32_t next = round_of(gate_.load(std::memory_order_relaxed)) + 1;
  gate_.store(next * kRound | kOpen);
  if (sleepers_.load() > 0) gate_.notify_all();
}

void ThreadPool::hand_out(size_t first, size_t last, size_t begin, size_t count) {
  const size_t shares = last - first;
  for (size_t i = 0; i < shares; ++i) {
    shares_[first + i].next.store(begin + count * i / shares, std::memory_order_relaxed);
    shares_[first + i].end = begin + count * (i + 1) / shares;
  }
}

void ThreadPool::parallel_for(size_t count, const std::function<void(size_t)>& body) {
  hand_out(0, first_share_N1_.back(), 0, count);
  run(body, count);
}

void ThreadPool::parallel_for_by_node(std::span<const size_t> counts, const std::function<void(size_t)>& body) {
  assert(counts.size() == static_cast<size_t>(num_nodes_));
  size_t total = 0;
  for (size_t node = 0; node < counts.size(); ++node) {
    hand_out(first_share_N1_[node], first_share_N1_[node + 1], total, counts[node]);
    total += counts[node];
  }
  run(body, total);
}

// All indices that were handed out, `count` of them.
void ThreadPool::run(const std::function<void(size_t)>& body, size_t count) {
  if (workers_.empty() || count <= 1) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  body_ = &body;
  error_ = nullptr;

  open_round();
  run_shares(caller_);
  gate_.fetch_and(~kOpen);
  const auto all_left = [&] { return (gate_.load(std::memory_order_acquire) & kBusy) == 0; };
  if (!may_spin_ || !spin_until(all_left)) {
    while (!all_left()) std::this_thread::yield();
  }
  if (error_) std::rethrow_exception(error_);
}

}  // namespace moiety
