// Each packed kernel by itself: one token against a matrix that comes from memory, in bytes a second on as many threads as
// there are cores; and some tokens against one that stays in the second-level cache, in operations a second of one thread's
// processor time, which other programs disturb little.
//
//   kernels [TABLE [TYPE…]]
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "base/huge_memory.h"
#include "base/matrix.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "kernel/packed.h"

namespace {

using namespace moiety;
using namespace moiety::kernel;

constexpr size_t kCols = 2048, kThreadBytes = size_t{192} << 20;

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double processor_seconds_of(const auto& body) {
  const auto now = [] {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  body();
  return now() - start;
}

struct Speed {
  double bytes, bytes_of_one, operations[5];
};
constexpr size_t kTokens[5] = {1, 2, 4, 8, 64};

Speed measure(const Kernels& kernels, const PackedType& type, ThreadPool& threads) {
  const size_t parts = static_cast<size_t>(threads.size());
  PackedView small{&type, nullptr, 256, kCols};
  PackedView large{&type, nullptr, 16 * (kThreadBytes / (small.bytes() / 16)), kCols};
  HugeMemory memory;
  std::vector<std::byte*> weights;
  std::vector<Matrix<std::byte>> rows;
  std::vector<Matrix<float>> y;
  Random random(1);
  for (size_t i = 0; i < parts; ++i) {
    weights.push_back(memory.allocate(large.bytes()));
    for (size_t at = 0; at < large.bytes(); at += 64) weights.back()[at] = static_cast<std::byte>(random.below(256));
    rows.emplace_back(kTokens[4], activation_row_bytes(type.activations, kCols));
    y.emplace_back(kTokens[4], large.rows);
  }
  const auto run = [&](size_t i, const PackedView& view, size_t tokens, size_t rounds) {
    PackedView mine = view;
    mine.data = weights[i];
    std::vector<const std::byte*> row(tokens);
    for (size_t t = 0; t < tokens; ++t) row[t] = rows[i].row(t).data();
    for (size_t round = 0; round < rounds; ++round) {
      kernels.packed_linear(mine, 0, mine.strips(), row.data(), tokens, y[i].flat().data(), mine.rows);
    }
  };
  Speed best{};
  for (int turn = 0; turn < 5; ++turn) {
    const double seconds = seconds_of([&] { threads.parallel_for(parts, [&](size_t i) { run(i, large, 1, 1); }); });
    best.bytes = std::max(best.bytes, static_cast<double>(parts * large.bytes()) / seconds);
    best.bytes_of_one = std::max(best.bytes_of_one, static_cast<double>(large.bytes()) / processor_seconds_of([&] { run(0, large, 1, 1); }));
    for (size_t i = 0; i < 5; ++i) {
      const size_t tokens = kTokens[i], rounds = 512 / tokens;
      const double operations = 2.0 * static_cast<double>(small.rows * kCols * tokens * rounds);
      best.operations[i] = std::max(best.operations[i], operations / processor_seconds_of([&] { run(0, small, tokens, rounds); }));
    }
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const Kernels* kernels = argc > 1 ? find_kernels(argv[1]) : available_kernels()[0];
  if (kernels == nullptr) return fmt::print(stderr, "kernels: no table \"{}\" here\n", argv[1]), 1;
  ThreadPool threads;
  fmt::print("{} kernels, {} threads, {} columns; from memory GB/s, in cache GOP/s of one by tokens\n", kernels->name, threads.size(), kCols);
  fmt::print("{:8} {:>6} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6}\n", "type", "bits", "GB/s", "of one", 1, 2, 4, 8, 64);
  for (const auto& info : spec::element_types()) {
    const PackedType* type = packed_type(info.type);
    if (type == nullptr || info.type == spec::ElementType::MXFP4_PLANES) continue;
    if (argc > 2 && std::none_of(argv + 2, argv + argc, [&](const char* name) { return info.name == name; })) continue;
    const Speed speed = measure(*kernels, *type, threads);
    fmt::print("{:8} {:6.2f} {:8.1f} {:8.1f}", info.name, 8.0 * static_cast<double>(type->quanta + type->scales) / (16.0 * static_cast<double>(type->block)), speed.bytes / 1e9,
               speed.bytes_of_one / 1e9);
    for (const double operations : speed.operations) fmt::print(" {:6.0f}", operations / 1e9);
    fmt::print("\n");
  }
}
