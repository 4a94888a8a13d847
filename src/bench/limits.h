// What this machine can do at most, measured beside the runs that are held against it: machines that are shared drift.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/huge_memory.h"
#include "kernel/linear.h"

namespace moiety::bench {

// What numbers are multiplied as.
enum class Unit { F32, Bf16, Int8 };
constexpr size_t kUnits = 3;
const char* name(Unit unit);

struct Limits {
  double read_bandwidth = 0;                 // bytes a second, all threads together, from memory
  std::array<double, kUnits> operations{};  // a second, all threads together, by Unit
  double disk_bandwidth = 0;                 // bytes a second, where experts are streamed from one; else 0
};

class LimitMeter {
 public:
  // Reads from `bytes` of memory of its own, which must be much more than the caches hold.
  explicit LimitMeter(const kernel::Compute& compute, size_t bytes = size_t{1} << 30);

  // Takes about a tenth of a second.
  Limits measure();

 private:
  double read_bandwidth();
  double operations(Unit unit);

  const kernel::Compute& compute_;
  HugeMemory owned_;
  std::span<std::byte> memory_;
  std::vector<size_t> pieces_N_;  // of the memory, by NUMA node
};

// Of each limit by itself.
Limits median(std::span<const Limits> measured);

}  // namespace moiety::bench
