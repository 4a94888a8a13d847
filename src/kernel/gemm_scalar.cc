// gemm.h in plain C++.
#include <bit>
#include <cstdint>
#include <utility>

#include "base/bytes.h"
#include "kernel/gemm_tile.h"

namespace moiety::kernel {
namespace {

struct PlainGemm {
  struct Words {
    uint32_t lane[16];
  };
  struct Sums {
    float lane[16];
  };
  static constexpr int kStrips = 1, kRows = 2;

  static Words load(const std::byte* p) {
    Words w;
    std::memcpy(&w, p, sizeof w);
    return w;
  }
  static void store(std::byte* p, const Words& w) { std::memcpy(p, &w, sizeof w); }
  static void stream(std::byte* p, const Words& w) { store(p, w); }
  static void fence() {}
  static Words interleaved(const float* x, const float* y) {
    Words w;
    for (int i = 0; i < 16; ++i) w.lane[i] = float_to_bf16(x[i]) | static_cast<uint32_t>(float_to_bf16(y[i])) << 16;
    return w;
  }
  static Words interleaved(const uint16_t* x, const uint16_t* y) {
    Words w;
    for (int i = 0; i < 16; ++i) w.lane[i] = x[i] | static_cast<uint32_t>(y[i]) << 16;
    return w;
  }
  static Words pairs(const float* x) {
    Words w;
    for (int i = 0; i < 16; ++i) w.lane[i] = float_to_bf16(x[2 * i]) | static_cast<uint32_t>(float_to_bf16(x[2 * i + 1])) << 16;
    return w;
  }
  static void turn(Words (&w)[16]) {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < i; ++j) std::swap(w[i].lane[j], w[j].lane[i]);
    }
  }

  static Sums none() { return {}; }
  static Sums load_sums(const float* p) {
    Sums s;
    std::memcpy(&s, p, sizeof s);
    return s;
  }
  static void store_sums(float* p, const Sums& s) { std::memcpy(p, &s, sizeof s); }
  static Sums plus(Sums a, const Sums& b) {
    for (int i = 0; i < 16; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static Sums f32_product(Sums sum, const Words& w, const std::byte* a) {
    float x;
    std::memcpy(&x, a, sizeof x);
    for (int i = 0; i < 16; ++i) sum.lane[i] += std::bit_cast<float>(w.lane[i]) * x;
    return sum;
  }
  static Sums bf16_product(Sums sum, const Words& w, const std::byte* a) {
    uint32_t pair;
    std::memcpy(&pair, a, sizeof pair);
    const float lower = bf16_to_float(static_cast<uint16_t>(pair)), upper = bf16_to_float(static_cast<uint16_t>(pair >> 16));
    for (int i = 0; i < 16; ++i) {
      sum.lane[i] += bf16_to_float(static_cast<uint16_t>(w.lane[i])) * lower;
      sum.lane[i] += bf16_to_float(static_cast<uint16_t>(w.lane[i] >> 16)) * upper;
    }
    return sum;
  }
};

}  // namespace

const GemmKernels& gemm_scalar() { return Gemm<PlainGemm>::kTable; }

}  // namespace moiety::kernel
