#include "train/loops.h"

#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>

#include "base/bytes.h"
#include "train/each_isa.h"

// Elements may lie in the same place, never in each other's.
#define MOIETY_ELEMENTWISE _Pragma("GCC ivdep")
#define MOIETY_INLINE static inline __attribute__((always_inline))

namespace moiety::train {
namespace {

// exp to within 2 units in the last place; branch-free, so that loops over it become vector code. Cephes' split of
// ln 2 and a polynomial of degree 7.
MOIETY_INLINE float quick_exp(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float n = __builtin_rintf(x * 1.44269504f);
  const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691e-4f;
  p = p * r + 1.3981999e-3f;
  p = p * r + 8.3334519e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 5.0000001e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

MOIETY_INLINE float quick_sigmoid(float x) { return 1.0f / (1.0f + quick_exp(-x)); }

// Numbers that are stored as f32 or as bf16
MOIETY_INLINE float value_of(float x) { return x; }
MOIETY_INLINE float value_of(Bf16 x) { return bf16_to_float(x); }
MOIETY_INLINE void put(float x, float& to) { to = x; }
MOIETY_INLINE void put(float x, Bf16& to) { to = float_to_bf16(x); }

}  // namespace

MOIETY_EACH_ISA float dot(ConstFloats a, ConstFloats b) {
  float sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

MOIETY_EACH_ISA double sum_of_squares(ConstFloats x) {
  double total = 0;
  for (size_t begin = 0; begin < x.size(); begin += 1024) {
    const size_t end = begin + 1024 < x.size() ? begin + 1024 : x.size();
    float sum = 0;
    for (size_t i = begin; i < end; ++i) sum += x[i] * x[i];
    total += sum;
  }
  return total;
}

MOIETY_EACH_ISA void add(ConstFloats x, Floats y) {
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) y[i] += x[i];
}

MOIETY_EACH_ISA void add_scaled(float factor, ConstFloats x, Floats y) {
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) y[i] += factor * x[i];
}

MOIETY_EACH_ISA void scale(float factor, Floats x) {
  for (float& value : x) value *= factor;
}

MOIETY_EACH_ISA void round(ConstFloats x, std::span<Bf16> y) {
  for (size_t i = 0; i < x.size(); ++i) y[i] = float_to_bf16(x[i]);
}

MOIETY_EACH_ISA float rms_norm(ConstFloats x, ConstFloats weight, float eps, Floats y) {
  float sum = 0;
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * x[i];
  const float inverse_rms = 1.0f / std::sqrt(sum / static_cast<float>(x.size()) + eps);
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * inverse_rms * weight[i];
  return inverse_rms;
}

MOIETY_EACH_ISA void rms_norm_backward(ConstFloats dy, ConstFloats x, ConstFloats weight, float inverse_rms, Floats dx,
                                       Floats dweight) {
  float sum = 0;
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) sum += dy[i] * weight[i] * x[i];
  const float along = sum * inverse_rms * inverse_rms * inverse_rms / static_cast<float>(x.size());
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) {
    const float gradient = dy[i];
    dweight[i] += gradient * x[i] * inverse_rms;
    dx[i] = gradient * weight[i] * inverse_rms - x[i] * along;
  }
}

MOIETY_EACH_ISA void silu_mul(ConstFloats gate, ConstFloats up, Floats out) {
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < gate.size(); ++i) out[i] = gate[i] * quick_sigmoid(gate[i]) * up[i];
}

template <class X>
MOIETY_INLINE void silu_mul_kept(ConstFloats gate, ConstFloats up, std::span<X> out, std::span<X> kept_gate, std::span<X> kept_up) {
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < gate.size(); ++i) {
    put(gate[i], kept_gate[i]);
    put(up[i], kept_up[i]);
    put(gate[i] * quick_sigmoid(gate[i]) * up[i], out[i]);
  }
}
MOIETY_EACH_ISA void silu_mul(ConstFloats gate, ConstFloats up, Floats out, Floats kept_gate, Floats kept_up) {
  silu_mul_kept(gate, up, out, kept_gate, kept_up);
}
MOIETY_EACH_ISA void silu_mul(ConstFloats gate, ConstFloats up, std::span<Bf16> out, std::span<Bf16> kept_gate,
                              std::span<Bf16> kept_up) {
  silu_mul_kept(gate, up, out, kept_gate, kept_up);
}

template <class X>
MOIETY_INLINE float silu_mul_gradients(ConstFloats dout, std::span<const X> gate, std::span<const X> up, float factor,
                                       std::span<X> dgate, std::span<X> dup, std::span<X> scaled_out) {
  float dfactor = 0;
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < gate.size(); ++i) {
    const float g = value_of(gate[i]), u = value_of(up[i]), d = dout[i];
    const float sigmoid = quick_sigmoid(g);
    const float silu = g * sigmoid;
    dfactor += d * silu * u;
    put(factor * silu * u, scaled_out[i]);
    put(factor * d * silu, dup[i]);
    put(factor * d * u * (sigmoid + silu * (1.0f - sigmoid)), dgate[i]);
  }
  return dfactor;
}
MOIETY_EACH_ISA float silu_mul_backward(ConstFloats dout, ConstFloats gate, ConstFloats up, float factor, Floats dgate,
                                        Floats dup, Floats scaled_out) {
  return silu_mul_gradients<float>(dout, gate, up, factor, dgate, dup, scaled_out);
}
MOIETY_EACH_ISA float silu_mul_backward(ConstFloats dout, std::span<const Bf16> gate, std::span<const Bf16> up, float factor,
                                        std::span<Bf16> dgate, std::span<Bf16> dup, std::span<Bf16> scaled_out) {
  return silu_mul_gradients<Bf16>(dout, gate, up, factor, dgate, dup, scaled_out);
}

// A maximum kept in lanes: one running maximum would not become vector code, because of what NaN and -0 ask for.
MOIETY_INLINE float largest_of(const float* x, size_t size) {
  constexpr size_t kLanes = 32;
  float lanes[kLanes];
  for (float& lane : lanes) lane = -INFINITY;
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (; i < size; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] = lanes[lane + half] > lanes[lane] ? lanes[lane + half] : lanes[lane];
    }
  }
  return lanes[0];
}

MOIETY_EACH_ISA Exponentials exponentials(float scale, Floats x) {
  const float largest = scale * largest_of(x.data(), x.size());
  float sum = 0;
  for (float& value : x) {
    const float power = quick_exp(scale * value - largest);
    value = power;
    sum += power;
  }
  return {largest, sum};
}

MOIETY_EACH_ISA void softmax_again(float scale, float log_sum, Floats x) {
  for (float& value : x) value = quick_exp(scale * value - log_sum);
}

MOIETY_EACH_ISA void softmax_backward(ConstFloats p, float scale, Floats dp) {
  float mean = 0;
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < p.size(); ++i) mean += p[i] * dp[i];
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < p.size(); ++i) dp[i] = p[i] * (dp[i] - mean) * scale;
}

MOIETY_EACH_ISA void softmax_backward(ConstFloats p, float mean, float scale, Floats dp) {
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < p.size(); ++i) dp[i] = p[i] * (dp[i] - mean) * scale;
}

MOIETY_EACH_ISA void break_stick(float scale, Floats scores, Floats parts) {
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < scores.size(); ++i) {
    const float score = scale * scores[i];
    parts[i] = quick_sigmoid(score);
    scores[i] = quick_sigmoid(-score);  // what the position leaves
  }
  float left = 1;
  for (size_t i = scores.size(); i-- > 0;) {
    const float rest = scores[i];
    scores[i] = left * parts[i];
    left *= rest;
  }
}

// A score's slope is its own weight's, w (1 - part), less the part of all that earlier positions have got.
MOIETY_EACH_ISA void break_stick_backward(ConstFloats weights, ConstFloats parts, float scale, Floats dweights) {
  float so_far = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const float own = weights[i] * dweights[i];
    so_far += own;
    dweights[i] = scale * (own - parts[i] * so_far);
  }
}

MOIETY_EACH_ISA void rotate_pairs(Floats x, ConstFloats cosine, ConstFloats sine, float sign) {
  const size_t half = x.size() / 2;
  float* first = x.data();
  float* second = x.data() + half;
  for (size_t i = 0; i < half; ++i) {
    const float a = first[i], b = second[i], c = cosine[i], s = sign * sine[i];
    first[i] = a * c - b * s;
    second[i] = b * c + a * s;
  }
}

MOIETY_EACH_ISA void adamw(const AdamStep& step, ConstFloats gradient, Floats weight, Floats first_moment,
                           Floats second_moment) {
  const float decay = 1.0f - step.learning_rate * step.weight_decay;
  const float rate = step.learning_rate / step.bias_correction1;
  const float inverse_correction2 = 1.0f / step.bias_correction2;
  const AdamStep s = step;
  const size_t size = weight.size();
  const float* __restrict g_in = gradient.data();
  float* __restrict w = weight.data();
  float* __restrict m = first_moment.data();
  float* __restrict v = second_moment.data();
  for (size_t i = 0; i < size; ++i) {
    const float g = g_in[i] * s.gradient_scale;
    m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * g;
    v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * g * g;
    w[i] = w[i] * decay - rate * m[i] / (std::sqrt(v[i] * inverse_correction2) + s.eps);
  }
}

MOIETY_EACH_ISA double add_squares(ConstFloats x, Floats y) {
  float sum = 0;
  MOIETY_ELEMENTWISE
  for (size_t i = 0; i < x.size(); ++i) {
    const float square = x[i] * x[i];
    y[i] += square;
    sum += square;
  }
  return sum;
}

MOIETY_EACH_ISA void adamw_factored(const AdamStep& step, ConstFloats gradient, float row_root, ConstFloats column_root,
                                    Floats weight, Floats first_moment) {
  const float decay = 1.0f - step.learning_rate * step.weight_decay;
  const float rate = step.learning_rate / step.bias_correction1;
  const AdamStep s = step;
  const size_t size = weight.size();
  const float* __restrict g_in = gradient.data();
  const float* __restrict root = column_root.data();
  float* __restrict w = weight.data();
  float* __restrict m = first_moment.data();
  if (first_moment.empty()) {
    for (size_t i = 0; i < size; ++i) w[i] = w[i] * decay - rate * (g_in[i] * s.gradient_scale) / (row_root * root[i] + s.eps);
    return;
  }
  for (size_t i = 0; i < size; ++i) {
    m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * (g_in[i] * s.gradient_scale);
    w[i] = w[i] * decay - rate * m[i] / (row_root * root[i] + s.eps);
  }
}

}  // namespace moiety::train
