// Which scale and minimum round a few numbers best: the search behind the encoders of format/fit_blocks.cc. "Best" is the
// least sum of w (x - x')^2 over the numbers x, their weights w and what a reader makes of them, x'.
//
// Eight groups of numbers are searched side by side, one a lane, so that no step has a branch or a sum across lanes and the
// same bytes come out on every machine. All is inlined: a function that calls these may be compiled for several processors.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

// Vectors are wider than this processor's may be, which matters to functions that are called, not to those inlined.
#pragma GCC diagnostic ignored "-Wpsabi"
#define MOIETY_INLINE [[gnu::always_inline]] inline
// Compiled for more than one processor, of which the program picks its own when it starts. (clang refuses to inline functions
// that return wide vectors into those; the thread sanitizer is not there yet when a program picks.)
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define MOIETY_FOR_EACH_PROCESSOR [[gnu::target_clones("avx2", "default")]]
#else
#define MOIETY_FOR_EACH_PROCESSOR
#endif

namespace moiety::format {

constexpr size_t kLanes = 8;
using Lanes = float __attribute__((vector_size(sizeof(float) * kLanes)));

MOIETY_INLINE Lanes all(float x) { return Lanes{} + x; }
MOIETY_INLINE Lanes least(const Lanes& a, const Lanes& b) { return a < b ? a : b; }
MOIETY_INLINE Lanes most(const Lanes& a, const Lanes& b) { return a < b ? b : a; }
MOIETY_INLINE Lanes magnitude(const Lanes& a) { return a < 0 ? -a : a; }
// 1 / a, 0 where a is zero.
MOIETY_INLINE Lanes inverse_of(const Lanes& a) { return a != 0 ? 1 / (a != 0 ? a : all(1)) : all(0); }
// To the nearest integer, of magnitudes below 2^22.
MOIETY_INLINE Lanes rounded(const Lanes& a) {
  constexpr float kShift = 0x1.8p23f;
  return (a + kShift) - kShift;
}
MOIETY_INLINE float sum_of(const Lanes& a) {
  float sum = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) sum += a[lane];
  return sum;
}

// The integers kLeast to kMost.
template <int kLeast, int kMost>
struct Integers {
  static constexpr int kLowest = kLeast, kHighest = kMost;
  MOIETY_INLINE static Lanes nearest(const Lanes& x) { return rounded(least(most(x, all(kLeast)), all(kMost))); }
};

// kSize numbers a lane and their weights.
template <size_t kSize>
struct Numbers {
  Lanes x[kSize], w[kSize];

  // Lane g, number i is values[g * kSize + i].
  MOIETY_INLINE static void spread(const float* values, Lanes (&out)[kSize]) {
    for (size_t i = 0; i < kSize; ++i) {
      for (size_t lane = 0; lane < kLanes; ++lane) out[i][lane] = values[lane * kSize + i];
    }
  }
  MOIETY_INLINE Numbers(const float* values, const float* weights) {
    spread(values, x);
    spread(weights, w);
  }
};

// x' = scale * level

// What a choice of levels makes of the error: E(scale) = constant - 2 scale wxl + scale^2 wll.
struct ScaleSums {
  Lanes wxl, wll;
  MOIETY_INLINE Lanes best_scale() const { return wxl * inverse_of(wll); }
  MOIETY_INLINE Lanes gain() const { return wxl * best_scale(); }  // by which the best scale lessens E
};

template <class Grid, size_t kSize>
MOIETY_INLINE ScaleSums scale_sums(const Numbers<kSize>& n, const Lanes& scale) {
  const Lanes inverse = inverse_of(scale);
  ScaleSums sums{};
  for (size_t i = 0; i < kSize; ++i) {
    const Lanes level = Grid::nearest(n.x[i] * inverse), weighted = n.w[i] * level;
    sums.wxl += weighted * n.x[i];
    sums.wll += weighted * level;
  }
  return sums;
}

template <class Grid, size_t kSize>
MOIETY_INLINE Lanes scale_error(const Numbers<kSize>& n, const Lanes& scale) {
  const Lanes inverse = inverse_of(scale);
  Lanes error{};
  for (size_t i = 0; i < kSize; ++i) {
    const Lanes off = n.x[i] - scale * Grid::nearest(n.x[i] * inverse);
    error += n.w[i] * off * off;
  }
  return error;
}

struct ScaleFit {
  Lanes scale;
  Lanes curvature;  // what a deviation from it costs: curvature * deviation^2
};

// Tries scales that bring the largest magnitude `from`, from + step, … to `to` times as far out as the outermost level, on
// either side, and improves the best.
template <class Grid, size_t kSize>
MOIETY_INLINE ScaleFit fit_scale(const Numbers<kSize>& n, float from, float to, float step) {
  Lanes largest{};
  for (size_t i = 0; i < kSize; ++i) largest = magnitude(n.x[i]) > magnitude(largest) ? n.x[i] : largest;
  ScaleFit best{};
  Lanes best_gain = all(-1);
  const auto consider = [&](const Lanes& scale) __attribute__((always_inline)) {
    const ScaleSums sums = scale_sums<Grid>(n, scale);
    const Lanes gain = sums.gain();
    const auto better = gain > best_gain;
    best.scale = better ? sums.best_scale() : best.scale;
    best.curvature = better ? sums.wll : best.curvature;
    best_gain = better ? gain : best_gain;
  };
  for (float share = from; share <= to; share += step) {
    consider(largest / (share * Grid::kLowest));
    consider(largest / (share * Grid::kHighest));
  }
  for (int again = 0; again < 2; ++again) consider(best.scale);
  return best;
}

// x' = scale * level - minimum, levels from 0 up

// E(scale, minimum) = constant - 2 scale wxq + 2 minimum wx + scale^2 wqq - 2 scale minimum wq + minimum^2 w.
struct AffineSums {
  Lanes w, wx, wq, wqq, wxq;

  struct Choice {
    Lanes scale, minimum, gain;
  };
  MOIETY_INLINE Choice with(const Lanes& scale, const Lanes& minimum) const {
    return {scale, minimum, 2 * (scale * (wxq + minimum * wq) - minimum * wx) - scale * scale * wqq - minimum * minimum * w};
  }
  // The minimum that goes with a scale.
  MOIETY_INLINE Lanes minimum_for(const Lanes& scale) const { return (scale * wq - wx) * inverse_of(w); }
  MOIETY_INLINE Choice best(bool minimum_may_be_negative) const {
    const Lanes spread = w * wqq - wq * wq;
    const Lanes scale = (w * wxq - wx * wq) * (spread > 1e-6f * w * wqq ? inverse_of(spread) : all(0));
    const Lanes minimum = minimum_for(scale);
    const Choice free = with(scale, minimum);
    if (minimum_may_be_negative) return free;
    const Choice none = with(wxq * inverse_of(wqq), all(0));
    const auto allowed = minimum >= 0;
    return {allowed ? free.scale : none.scale, allowed ? free.minimum : none.minimum, allowed ? free.gain : none.gain};
  }
};

template <class Grid, size_t kSize>
MOIETY_INLINE AffineSums affine_sums(const Numbers<kSize>& n, const Lanes& scale, const Lanes& minimum) {
  const Lanes inverse = inverse_of(scale);
  AffineSums sums{};
  for (size_t i = 0; i < kSize; ++i) {
    const Lanes level = Grid::nearest((n.x[i] + minimum) * inverse), weighted = n.w[i] * level;
    sums.w += n.w[i];
    sums.wx += n.w[i] * n.x[i];
    sums.wq += weighted;
    sums.wqq += weighted * level;
    sums.wxq += weighted * n.x[i];
  }
  return sums;
}

template <class Grid, size_t kSize>
MOIETY_INLINE Lanes affine_error(const Numbers<kSize>& n, const Lanes& scale, const Lanes& minimum) {
  const Lanes inverse = inverse_of(scale);
  Lanes error{};
  for (size_t i = 0; i < kSize; ++i) {
    const Lanes off = n.x[i] - (scale * Grid::nearest((n.x[i] + minimum) * inverse) - minimum);
    error += n.w[i] * off * off;
  }
  return error;
}

struct AffineFit {
  Lanes scale, minimum;
  AffineSums sums;
};

// Tries scales that spread `from` to `to` times the levels over the range of the numbers, and improves the best.
template <class Grid, size_t kSize>
MOIETY_INLINE AffineFit fit_affine(const Numbers<kSize>& n, float from, float to, float step, int improvements,
                                   bool minimum_may_be_negative) {
  Lanes lowest = minimum_may_be_negative ? n.x[0] : least(n.x[0], all(0)), highest = n.x[0];
  for (size_t i = 0; i < kSize; ++i) lowest = least(lowest, n.x[i]), highest = most(highest, n.x[i]);
  AffineFit best{};
  best.minimum = -lowest;
  Lanes best_gain = all(-INFINITY);
  const auto consider = [&](const Lanes& scale, const Lanes& minimum) __attribute__((always_inline)) {
    const AffineSums sums = affine_sums<Grid>(n, scale, minimum);
    const AffineSums::Choice choice = sums.best(minimum_may_be_negative);
    const auto better = choice.gain > best_gain;
    best.scale = better ? choice.scale : best.scale;
    best.minimum = better ? choice.minimum : best.minimum;
    best_gain = better ? choice.gain : best_gain;
    best.sums.w = sums.w, best.sums.wx = sums.wx;
    best.sums.wq = better ? sums.wq : best.sums.wq;
    best.sums.wqq = better ? sums.wqq : best.sums.wqq;
    best.sums.wxq = better ? sums.wxq : best.sums.wxq;
  };
  for (float share = from; share <= to; share += step) consider((highest - lowest) / (share * Grid::kHighest), -lowest);
  for (int again = 0; again < improvements; ++again) consider(best.scale, best.minimum);
  return best;
}

}  // namespace moiety::format
