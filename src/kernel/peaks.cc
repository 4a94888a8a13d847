#include "kernel/peaks.h"

#include "kernel/peak_loops.h"

namespace moiety::kernel {

const Peaks& avx2_peaks();
const Peaks& avx512_peaks();

namespace {

// Whatever the compiler makes of sixteen floats at a time.
struct Plain {
  static constexpr size_t kWidth = 16;
  struct Vec {
    float x[kWidth];
  };
  static Vec all(float x) {
    Vec v;
    for (float& lane : v.x) lane = x;
    return v;
  }
  static Vec zero() { return all(0); }
  static Vec load(const float* p) {
    Vec v;
    for (size_t i = 0; i < kWidth; ++i) v.x[i] = p[i];
    return v;
  }
  static Vec add(Vec a, const Vec& b) {
    for (size_t i = 0; i < kWidth; ++i) a.x[i] += b.x[i];
    return a;
  }
  static Vec fma(const Vec& a, const Vec& b, Vec c) {
    for (size_t i = 0; i < kWidth; ++i) c.x[i] += a.x[i] * b.x[i];
    return c;
  }
  static float sum(const Vec& v) {
    float sum = 0;
    for (const float lane : v.x) sum += lane;
    return sum;
  }
};

const Peaks kPlain{peak_loop<F32Step<Plain>>, nullptr, nullptr, read_all<Plain>};

}  // namespace

const Peaks& peaks_of(const Kernels& kernels) {
#if defined(__x86_64__)
  if (kernels.name == "avx512") return avx512_peaks();
  if (kernels.name == "avx2") return avx2_peaks();
#endif
  return kPlain;
}

}  // namespace moiety::kernel
