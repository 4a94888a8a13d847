// Blocks of blocks: the scales (and minima) of many groups of numbers are themselves small integers times a common number in
// half precision. Each group is fitted alone (format/least_squares.h), then a common number is sought that suits their scales,
// then the integers near by are tried, then the common number is fitted to what was chosen.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>

#include "base/bytes.h"
#include "format/least_squares.h"

namespace moiety::format {

MOIETY_INLINE float half(float x) { return half_to_float(float_to_half(std::clamp(x, -65504.0f, 65504.0f))); }

// What fit_scale or fit_affine tries: as much as brings a gain, which is more the fewer the levels.
struct Search {
  float from, to, step;
  int improvements = 2;
};

template <class Grid, size_t kSize>
MOIETY_INLINE void levels_of(const Numbers<kSize>& n, const Lanes& scale, const Lanes& minimum, int8_t* out) {
  const Lanes inverse = inverse_of(scale);
  for (size_t i = 0; i < kSize; ++i) {
    const Lanes level = Grid::nearest((n.x[i] + minimum) * inverse);
    for (size_t lane = 0; lane < kLanes; ++lane) out[lane * kSize + i] = static_cast<int8_t>(level[lane]);
  }
}

// A scale for every lane that is a small integer times a common one: which common one costs the least by the curvatures.
template <class Multipliers, size_t kGroups>
MOIETY_INLINE float common_scale(const Lanes (&scales)[kGroups], const Lanes (&curvatures)[kGroups]) {
  float largest = 0;
  for (const Lanes& scale : scales) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (std::abs(scale[lane]) > std::abs(largest)) largest = scale[lane];
    }
  }
  if (largest == 0) return 0;
  float best = 0, best_cost = INFINITY;
  const auto consider = [&](float common) __attribute__((always_inline)) {
    const Lanes inverse = all(1 / common);
    Lanes cost{};
    for (size_t g = 0; g < kGroups; ++g) {
      const Lanes off = scales[g] - common * Multipliers::nearest(scales[g] * inverse);
      cost += curvatures[g] * off * off;
    }
    const float total = sum_of(cost);
    if (total < best_cost) best = common, best_cost = total;
  };
  for (float share = 0.6f; share <= 1.1f; share += 0.02f) {
    consider(largest / (share * Multipliers::kHighest));
    if (Multipliers::kLowest != 0) consider(largest / (share * Multipliers::kLowest));
  }
  return best;
}

// x' = d k level, a k for every kSize numbers.
template <class Grid, class Multipliers, size_t kSize, size_t kGroups>
struct Scaled {
  static constexpr size_t kElements = kSize * kLanes * kGroups;
  float d = 0;
  int8_t k[kLanes * kGroups];
  int8_t levels[kElements];

  MOIETY_INLINE Scaled(const float* x, const float* w, const Search& search) {
    const auto n = [&]<size_t... g>(std::index_sequence<g...>) __attribute__((always_inline)) {
      return std::array{Numbers<kSize>(x + g * kSize * kLanes, w + g * kSize * kLanes)...};
    }(std::make_index_sequence<kGroups>());

    Lanes scales[kGroups], curvatures[kGroups], multipliers[kGroups];
    for (size_t g = 0; g < kGroups; ++g) {
      const ScaleFit fit = fit_scale<Grid>(n[g], search.from, search.to, search.step);
      scales[g] = fit.scale, curvatures[g] = fit.curvature;
    }
    d = half(common_scale<Multipliers>(scales, curvatures));

    // Neighbours of the nearest multiplier, for numbers round anew under each
    Lanes error{};
    const Lanes inverse = inverse_of(all(d));
    for (size_t g = 0; g < kGroups; ++g) {
      const Lanes nearest = Multipliers::nearest(scales[g] * inverse);
      Lanes best = nearest, best_error = scale_error<Grid>(n[g], d * nearest);
      for (const float step : {-1.0f, 1.0f}) {
        const Lanes other = Multipliers::nearest(nearest + step);
        const Lanes other_error = scale_error<Grid>(n[g], d * other);
        const auto better = other_error < best_error;
        best = better ? other : best;
        best_error = better ? other_error : best_error;
      }
      multipliers[g] = best;
      error += best_error;
    }

    // The common scale that is best for these
    float total = sum_of(error);
    for (int again = 0; again < 2; ++again) {
      Lanes wxl{}, wll{};
      for (size_t g = 0; g < kGroups; ++g) {
        const ScaleSums sums = scale_sums<Grid>(n[g], d * multipliers[g]);
        wxl += multipliers[g] * sums.wxl;
        wll += multipliers[g] * multipliers[g] * sums.wll;
      }
      const float curvature = sum_of(wll), other = half(curvature > 0 ? sum_of(wxl) / curvature : 0);
      if (other == d) break;
      Lanes other_error{};
      for (size_t g = 0; g < kGroups; ++g) other_error += scale_error<Grid>(n[g], other * multipliers[g]);
      if (!(sum_of(other_error) < total)) break;
      d = other, total = sum_of(other_error);
    }

    for (size_t g = 0; g < kGroups; ++g) {
      for (size_t lane = 0; lane < kLanes; ++lane) k[g * kLanes + lane] = static_cast<int8_t>(multipliers[g][lane]);
      levels_of<Grid>(n[g], d * multipliers[g], Lanes{}, levels + g * kSize * kLanes);
    }
  }
};

// x' = d k level - m l, a k and an l for every kSize numbers.
template <class Grid, class Multipliers, size_t kSize, size_t kGroups>
struct Affine {
  static constexpr size_t kElements = kSize * kLanes * kGroups;
  float d = 0, m = 0;
  uint8_t k[kLanes * kGroups], l[kLanes * kGroups];
  int8_t levels[kElements];

  MOIETY_INLINE Affine(const float* x, const float* w, const Search& search) {
    const auto n = [&]<size_t... g>(std::index_sequence<g...>) __attribute__((always_inline)) {
      return std::array{Numbers<kSize>(x + g * kSize * kLanes, w + g * kSize * kLanes)...};
    }(std::make_index_sequence<kGroups>());

    AffineFit fits[kGroups];
    Lanes scales[kGroups], minima[kGroups], curvatures[kGroups], ks[kGroups], ls[kGroups] = {};
    for (size_t g = 0; g < kGroups; ++g) {
      fits[g] = fit_affine<Grid>(n[g], search.from, search.to, search.step, search.improvements, false);
      const AffineSums& s = fits[g].sums;
      scales[g] = fits[g].scale;
      curvatures[g] = most(s.wqq - s.wq * s.wq * inverse_of(s.w), all(0));
    }
    d = half(common_scale<Multipliers>(scales, curvatures));
    for (size_t g = 0; g < kGroups; ++g) {
      ks[g] = Multipliers::nearest(scales[g] * inverse_of(all(d)));
      minima[g] = most(fits[g].sums.minimum_for(d * ks[g]), all(0));
      curvatures[g] = fits[g].sums.w;
    }
    m = half(common_scale<Multipliers>(minima, curvatures));

    float total = 0;
    for (int again = 0; again < 2; ++again) {
      // Neighbours
      Lanes error{};
      for (size_t g = 0; g < kGroups; ++g) {
        const Lanes k0 = ks[g], l0 = again == 0 ? Multipliers::nearest(minima[g] * inverse_of(all(m))) : ls[g];
        Lanes best_error = all(INFINITY);
        for (const float k_step : {0.0f, -1.0f, 1.0f}) {
          for (const float l_step : {0.0f, -1.0f, 1.0f}) {
            const Lanes other_k = Multipliers::nearest(k0 + k_step), other_l = Multipliers::nearest(l0 + l_step);
            const Lanes other_error = affine_error<Grid>(n[g], d * other_k, m * other_l);
            const auto better = other_error < best_error;
            ks[g] = better ? other_k : ks[g];
            ls[g] = better ? other_l : ls[g];
            best_error = better ? other_error : best_error;
          }
        }
        error += best_error;
      }
      total = sum_of(error);

      // The common scale and minimum that are best for these
      Lanes xa{}, xb{}, aa{}, ab{}, bb{};
      for (size_t g = 0; g < kGroups; ++g) {
        const AffineSums s = affine_sums<Grid>(n[g], d * ks[g], m * ls[g]);
        xa += ks[g] * s.wxq, xb += ls[g] * s.wx;
        aa += ks[g] * ks[g] * s.wqq, ab += ks[g] * ls[g] * s.wq, bb += ls[g] * ls[g] * s.w;
      }
      const double XA = sum_of(xa), XB = sum_of(xb), AA = sum_of(aa), AB = sum_of(ab), BB = sum_of(bb);
      const double spread = AA * BB - AB * AB;
      if (!(spread > 1e-6 * AA * BB)) break;
      const float other_d = half(static_cast<float>((BB * XA - AB * XB) / spread));
      const float other_m = half(static_cast<float>((AB * XA - AA * XB) / spread));
      Lanes other_error{};
      for (size_t g = 0; g < kGroups; ++g) other_error += affine_error<Grid>(n[g], other_d * ks[g], other_m * ls[g]);
      if (!(sum_of(other_error) < total)) break;
      d = other_d, m = other_m, total = sum_of(other_error);
    }

    for (size_t g = 0; g < kGroups; ++g) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        k[g * kLanes + lane] = static_cast<uint8_t>(ks[g][lane]);
        l[g * kLanes + lane] = static_cast<uint8_t>(ls[g][lane]);
      }
      levels_of<Grid>(n[g], d * ks[g], m * ls[g], levels + g * kSize * kLanes);
    }
  }
};

}  // namespace moiety::format
