// One block of attention, plainly: what every other version of it is tested against. Included by scalar.cc.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "kernel/attend.h"

namespace moiety::kernel {
namespace {

// What queries and weights are rounded to.
inline float rounded_for(KvType type, float x) { return pair_of(type) == 2 ? bf16_to_float(float_to_bf16(x)) : x; }

inline float score(const KvView& kv, const float* query, float scale, size_t position) {
  const size_t at_once = kv.key_scales == nullptr ? kv.key_dim : kKeysPerScale;
  float sum = 0;
  for (size_t begin = 0; begin < kv.key_dim; begin += at_once) {
    float part = 0;
    for (size_t d = begin; d < std::min(begin + at_once, kv.key_dim); ++d) {
      part += rounded_for(kv.type, scale * query[d]) * kv_number(kv.type, kv.keys, kv.key_at(position, d));
    }
    if (kv.key_scales != nullptr) part *= kv.key_scales[begin / kKeysPerScale * kv.scale_stride + position];
    sum += part;
  }
  return sum;
}

inline void fold_plainly(const AttendState& from, const AttendState& into, size_t rows, size_t value_dim) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    if (from.sum[r] == 0) continue;  // it saw nothing
    const float largest = std::max(into.largest[r], from.largest[r]);
    const float old = std::exp2(into.largest[r] - largest), added = std::exp2(from.largest[r] - largest);
    into.largest[r] = largest;
    into.sum[r] = into.sum[r] * old + from.sum[r] * added;
    const float* x = from.mixed + r * from.stride;
    float* y = into.mixed + r * into.stride;
    for (size_t d = 0; d < value_dim; ++d) y[d] = y[d] * old + x[d] * added;
  }
}

inline void attend_plainly(const KvView& kv, size_t block, const AttendRows& rows, const AttendState& state,
                           float* scratch) noexcept {
  for (size_t r = 0; r < rows.count; ++r) {
    const size_t first = std::max(rows.first[r], block * kAttendBlock);
    const size_t end = std::min(rows.end[r], (block + 1) * kAttendBlock);
    if (first >= end) continue;
    float *weights = scratch, *mixed = scratch + kAttendBlock, largest = -std::numeric_limits<float>::infinity(), sum = 0;
    for (size_t i = first; i < end; ++i) {
      weights[i - first] = score(kv, rows.query[r], rows.scale, i);
      largest = std::max(largest, weights[i - first]);
    }
    std::fill_n(mixed, kv.value_dim, 0.0f);
    for (size_t i = first; i < end; ++i) {
      float weight = std::exp2(weights[i - first] - largest);
      sum += weight;
      if (kv.value_scales != nullptr) weight *= kv.value_scales[i];
      weight = rounded_for(kv.type, weight);
      for (size_t d = 0; d < kv.value_dim; ++d) mixed[d] += weight * kv_number(kv.type, kv.values, kv.value_at(i, d));
    }
    const AttendState row{state.largest + r, state.sum + r, state.mixed + r * state.stride, state.stride};
    fold_plainly({&largest, &sum, mixed, kv.value_dim}, row, 1, kv.value_dim);
  }
}

}  // namespace
}  // namespace moiety::kernel
