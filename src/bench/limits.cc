#include "bench/limits.h"

#include <chrono>
#include <cstring>

#include "bench/median.h"
#include "kernel/peaks.h"

namespace moiety::bench {
namespace {

constexpr size_t kPiece = 1 << 20;    // bytes a task reads
constexpr size_t kRounds = 100000;    // of a peak loop a task: some hundred microseconds
constexpr size_t kTasksAThread = 16;  // of peak loops
constexpr int kTries = 3;

template <class Body>
double median_seconds(const Body& body) {
  std::vector<double> seconds;
  for (int i = 0; i < kTries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return median(std::move(seconds));
}

}  // namespace

const char* name(Unit unit) {
  constexpr const char* kNames[kUnits] = {"f32", "bf16", "int8"};
  return kNames[static_cast<size_t>(unit)];
}

LimitMeter::LimitMeter(const kernel::Compute& compute, size_t bytes) : compute_(compute) {
  bytes = (bytes + kPiece - 1) / kPiece * kPiece;
  memory_ = {owned_.allocate(bytes), bytes};
  const size_t nodes = static_cast<size_t>(compute.threads.num_nodes()), pieces = bytes / kPiece;
  for (size_t node = 0; node < nodes; ++node) pieces_N_.push_back(pieces * (node + 1) / nodes - pieces * node / nodes);
  // Written, so that it is memory and not one page of zeros, by those who will read it.
  compute.threads.parallel_for_by_node(pieces_N_, [&](size_t i) { std::memset(&memory_[i * kPiece], 0x11, kPiece); });
}

double LimitMeter::read_bandwidth() {
  const auto read = kernel::peaks_of(compute_.kernels).read;
  std::vector<float> sums(memory_.size() / kPiece);
  const double seconds = median_seconds([&] {
    compute_.threads.parallel_for_by_node(pieces_N_, [&](size_t i) { sums[i] = read(&memory_[i * kPiece], kPiece); });
  });
  return static_cast<double>(memory_.size()) / seconds;
}

double LimitMeter::operations(Unit unit) {
  const kernel::Peaks& peaks = kernel::peaks_of(compute_.kernels);
  const kernel::Peaks::Loop loops[kUnits] = {peaks.f32, peaks.bf16, peaks.int8};
  const auto named = loops[static_cast<size_t>(unit)], loop = named != nullptr ? named : peaks.f32;
  std::vector<double> done(kTasksAThread * static_cast<size_t>(compute_.threads.size()));
  const double seconds = median_seconds([&] {
    compute_.threads.parallel_for(done.size(), [&](size_t i) { done[i] = loop(kRounds); });
  });
  double sum = 0;
  for (const double operations : done) sum += operations;
  return sum / seconds;
}

Limits LimitMeter::measure() {
  Limits limits{.read_bandwidth = read_bandwidth()};
  for (size_t unit = 0; unit < kUnits; ++unit) limits.operations[unit] = operations(static_cast<Unit>(unit));
  return limits;
}

Limits median(std::span<const Limits> measured) {
  const auto of = [&](auto member) {
    std::vector<double> values;
    for (const Limits& limits : measured) values.push_back(member(limits));
    return median(std::move(values));
  };
  Limits middle{.read_bandwidth = of([](const Limits& limits) { return limits.read_bandwidth; })};
  for (size_t unit = 0; unit < kUnits; ++unit) {
    middle.operations[unit] = of([&](const Limits& limits) { return limits.operations[unit]; });
  }
  middle.disk_bandwidth = of([](const Limits& limits) { return limits.disk_bandwidth; });
  return middle;
}

}  // namespace moiety::bench
