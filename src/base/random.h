// Random numbers that are a function of (seed, stream, counter): the same everywhere, resumable by three integers.
// SplitMix64's finaliser (Steele, Lea and Flood 2014) over a Weyl sequence.
#pragma once

#include <cmath>
#include <cstdint>

namespace moiety {

class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0, uint64_t counter = 0)
      : key_(mix(seed + 0x9e3779b97f4a7c15u * (stream + 1)) ^ mix(stream + 0xd1b54a32d192ed03u)),
        counter_(counter) {}

  uint64_t counter() const { return counter_; }  // how many draws so far

  uint64_t next() { return mix(key_ + 0x9e3779b97f4a7c15u * ++counter_); }
  // In [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // In [0, bound), without bias that matters below 2^32.
  uint64_t below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  // Standard normal (Box and Muller); two draws a number.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }

 private:
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  uint64_t key_, counter_;
};

}  // namespace moiety
