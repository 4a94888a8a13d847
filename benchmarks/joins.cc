// What a parallel loop costs: medians of many loops over tasks that do nothing, that work for 10 microseconds each, and
// the same after a pause in which the workers have gone to sleep.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "base/thread_pool.h"

namespace {

using namespace moiety;
using Clock = std::chrono::steady_clock;

void work_for(std::chrono::nanoseconds time) {
  for (const auto end = Clock::now() + time; Clock::now() < end;) {
  }
}

// Microseconds of a loop: median and 99th percentile.
struct Cost {
  double median, p99;
};

Cost cost_of(ThreadPool& pool, size_t tasks, std::chrono::nanoseconds task, std::chrono::nanoseconds between, int loops) {
  std::vector<double> microseconds;
  for (int loop = 0; loop < loops; ++loop) {
    work_for(between);
    const auto start = Clock::now();
    pool.parallel_for(tasks, [&](size_t) {
      if (task.count() > 0) work_for(task);
    });
    microseconds.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  std::sort(microseconds.begin(), microseconds.end());
  return {microseconds[microseconds.size() / 2], microseconds[microseconds.size() * 99 / 100]};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace std::chrono_literals;
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 0);
  fmt::print("{} threads; microseconds a loop: median (99th percentile)\n", pool.size());
  fmt::print("{:>6} {:>20} {:>20} {:>20} {:>20}\n", "tasks", "empty", "10 us each", "empty, 20 us apart", "10 us, 1 ms apart");
  for (const size_t tasks : {2, 8, 64}) {
    fmt::print("{:>6}", tasks);
    for (const auto& [task, between, loops] : {std::tuple(0ns, 0ns, 100000), {10000ns, 0ns, 5000}, {0ns, 20000ns, 20000}, {10000ns, 1000000ns, 1000}}) {
      const Cost cost = cost_of(pool, tasks, task, between, loops);
      fmt::print(" {:>10.2f} {:>9}", cost.median, fmt::format("({:.1f})", cost.p99));
    }
    fmt::print("\n");
  }
}
