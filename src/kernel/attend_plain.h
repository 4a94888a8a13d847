// One block of attention, plainly: what every other version of it is tested against. Included by scalar.cc.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "kernel/attend.h"

namespace moiety::kernel {
namespace {

// n numbers times `scale` as they are multiplied with a cache of the type: f32, rounded to bf16, or rounded to integers of 16
// bits, which are to be multiplied by what is returned. What is not finite spoils that, and so is not lost.
inline float round_plainly(KvType type, const float* from, size_t n, float scale, float* to) {
  float most = 0, poison = 0;
  for (size_t i = 0; i < n; ++i) {
    most = std::max(most, std::abs(from[i]));
    poison += from[i] * 0;
  }
  const float unit = type == KvType::Q8 ? most * scale / 32767 : 1;
  for (size_t i = 0; i < n; ++i) {
    switch (type) {
      case KvType::F32:
      case KvType::F16:
        to[i] = from[i] * scale;
        break;
      case KvType::BF16:
        to[i] = bf16_to_float(float_to_bf16(from[i] * scale));
        break;
      case KvType::Q8:
        to[i] = unit > 0 ? std::nearbyint(from[i] * (scale / unit)) : 0;
        break;
    }
  }
  return type == KvType::Q8 ? unit + poison : unit;
}

// Of a query that is rounded, whose numbers are in units of `unit`, with a position of the block.
inline float score(const KvView& kv, const float* query, float unit, size_t position) {
  const size_t at_once = kv.key_scales == nullptr ? kv.key_dim : kKeysPerScale;
  float sum = 0;
  for (size_t begin = 0; begin < kv.key_dim; begin += at_once) {
    double part = 0;
    for (size_t d = begin; d < std::min(begin + at_once, kv.key_dim); ++d) {
      part += double{query[d]} * kv_number(kv.type, kv.keys, kv.key_at(position, d));
    }
    const float scale = kv.key_scales == nullptr ? 1 : kv.key_scales[begin / kKeysPerScale * kAttendBlock + position];
    sum += static_cast<float>(part) * unit * scale;
  }
  return sum;
}

inline void fold_plainly(const AttendState& from, const AttendState& into, size_t rows, size_t value_dim) noexcept {
  for (size_t r = 0; r < rows && into.breaks_stick; ++r) {
    if (from.sum[r] > 1) continue;  // it saw nothing
    const float* x = from.mixed + r * from.stride;
    float* y = into.mixed + r * into.stride;
    for (size_t d = 0; d < value_dim; ++d) y[d] = y[d] * from.sum[r] + x[d];
    into.sum[r] = std::min(into.sum[r], 1.0f) * from.sum[r];
  }
  if (into.breaks_stick) return;
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

// Scores, in powers of two, into what the last position and those before it break off one after the other; returns what is left.
inline float break_plainly(float* scores, size_t count) {
  double left = 1;
  for (size_t i = count; i-- > 0;) {
    const double part = 1 / (1 + std::exp2(-double{scores[i]})), rest = 1 / (1 + std::exp2(double{scores[i]}));
    scores[i] = static_cast<float>(part * left);
    left *= rest;
  }
  return static_cast<float>(left);
}

inline void attend_plainly(const KvView& kv, size_t block, const AttendRows& rows, const AttendState& state,
                           float* scratch) noexcept {
  for (size_t r = 0; r < rows.count; ++r) {
    const size_t begin = block * kAttendBlock;
    if (rows.end[r] <= begin) continue;
    const size_t first = std::max(rows.first[r], begin) - begin, end = std::min(rows.end[r] - begin, kAttendBlock);
    if (first >= end) continue;
    float *weights = scratch, *mixed = weights + kAttendBlock, *query = mixed + kv.value_dim;
    float largest = -std::numeric_limits<float>::infinity(), sum = 0;
    const float query_unit = round_plainly(kv.type, rows.query[r], kv.key_dim, rows.scale, query);
    for (size_t i = first; i < end; ++i) {
      weights[i - first] = score(kv, query, query_unit, i);
      largest = std::max(largest, weights[i - first]);
    }
    if (state.breaks_stick) sum = break_plainly(weights, end - first);
    for (size_t i = first; i < end; ++i) {
      float& weight = weights[i - first];
      if (!state.breaks_stick) sum += weight = std::exp2(weight - largest);
      if (kv.value_scales != nullptr) weight *= kv.value_scales[i];
    }
    const float unit = round_plainly(kv.type, weights, end - first, 1, weights);
    for (size_t d = 0; d < kv.value_dim; ++d) {
      double mix = 0;
      for (size_t i = first; i < end; ++i) {
        mix += double{weights[i - first]} * kv_number(kv.type, kv.values, kv.value_at(i, d));
      }
      mixed[d] = static_cast<float>(mix) * unit;
    }
    const AttendState row{state.largest + r, state.sum + r, state.mixed + r * state.stride, state.stride, state.breaks_stick};
    fold_plainly({&largest, &sum, mixed, kv.value_dim}, row, 1, kv.value_dim);
  }
}

}  // namespace
}  // namespace moiety::kernel
