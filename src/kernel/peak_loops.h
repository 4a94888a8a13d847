// The loops of kernel/peaks.h, written once over a vector type. Included by one file an instruction set, as kernel/tile.h is.
#pragma once

#include "kernel/peaks.h"

namespace moiety::kernel {
namespace {

// `Step` gives: Sum; start(); add(sum), which multiplies kOps / 2 pairs and adds the products to the sum; first(sum), a
// number out of it; and kSums, how many sums go side by side, so that none waits for itself: latency times instructions a
// cycle.
template <class Step>
double peak_loop(size_t rounds) noexcept {
  typename Step::Sum sums[Step::kSums];
  for (auto& sum : sums) sum = Step::start();
  for (size_t round = 0; round < rounds; ++round) {
    for (auto& sum : sums) sum = Step::add(sum);
  }
  [[maybe_unused]] static volatile float sink;
  for (auto& sum : sums) sink = Step::first(sum);
  return static_cast<double>(rounds) * Step::kSums * Step::kOps;
}

template <class Isa>
struct F32Step {
  using Sum = typename Isa::Vec;
  static constexpr int kSums = 10;
  static constexpr double kOps = 2.0 * Isa::kWidth;
  static Sum start() { return Isa::zero(); }
  static Sum add(Sum sum) { return Isa::fma(Isa::all(1.5f), Isa::all(0.25f), sum); }
  static float first(Sum sum) { return Isa::sum(sum); }
};

// One stream of vectors, asked for a page ahead of where the processor's own prefetching stops.
template <class Isa>
float read_all(const std::byte* data, size_t bytes) noexcept {
  constexpr size_t kSums = 8, kStep = kSums * Isa::kWidth * sizeof(float);
  static_assert(4096 % kStep == 0);
  typename Isa::Vec sums[kSums];
  for (auto& sum : sums) sum = Isa::zero();
  for (size_t at = 0; at < bytes; at += kStep) {
    for (size_t line = 0; line < kStep; line += 64) __builtin_prefetch(data + at + 4096 + line);
    for (size_t i = 0; i < kSums; ++i) {
      sums[i] = Isa::add(sums[i], Isa::load(reinterpret_cast<const float*>(data + at + i * kStep / kSums)));
    }
  }
  float all = 0;
  for (auto& sum : sums) all += Isa::sum(sum);
  return all;
}

}  // namespace
}  // namespace moiety::kernel
