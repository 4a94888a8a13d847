// The inner loops of training over spans of floats: no torch, no threads. Compiled once for each of several
// instruction sets; the machine picks one when the program starts. Sums may be taken in any order, but always the same
// one for the same length on the same machine.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace moiety::train {

using Floats = std::span<float>;
using ConstFloats = std::span<const float>;
using Bf16 = uint16_t;

float dot(ConstFloats a, ConstFloats b);
double sum_of_squares(ConstFloats x);
void add(ConstFloats x, Floats y);                       // y += x
void add_scaled(float factor, ConstFloats x, Floats y);  // y += factor * x
void scale(float factor, Floats x);
void round(ConstFloats x, std::span<Bf16> y);  // to the nearest, ties to even

// y = x / rms(x) * weight; returns 1 / rms(x).
float rms_norm(ConstFloats x, ConstFloats weight, float eps, Floats y);
// Writes dx (which may be dy) and adds to dweight.
void rms_norm_backward(ConstFloats dy, ConstFloats x, ConstFloats weight, float inverse_rms, Floats dx, Floats dweight);

// out = silu(gate) * up
void silu_mul(ConstFloats gate, ConstFloats up, Floats out);
// The same for a visit of an expert, with results as its products want them, or as they are kept.
void silu_mul(ConstFloats gate, ConstFloats up, Floats out, Floats kept_gate, Floats kept_up);
void silu_mul(ConstFloats gate, ConstFloats up, std::span<Bf16> out, std::span<Bf16> kept_gate, std::span<Bf16> kept_up);
// From d(out)/`factor` makes d(gate) and d(up); puts factor * out into `scaled_out` and returns the sum of dout * out:
// the gradient of `factor` itself.
float silu_mul_backward(ConstFloats dout, ConstFloats gate, ConstFloats up, float factor, Floats dgate, Floats dup,
                        Floats scaled_out);
float silu_mul_backward(ConstFloats dout, std::span<const Bf16> gate, std::span<const Bf16> up, float factor,
                        std::span<Bf16> dgate, std::span<Bf16> dup, std::span<Bf16> scaled_out);

// x = exp(scale * x - largest), which sum to `sum`: softmax before its division.
struct Exponentials {
  float largest, sum;
  float log_sum() const { return largest + std::log(sum); }
};
Exponentials exponentials(float scale, Floats x);
// x = exp(scale * x - log_sum): the whole softmax, from what is known of an earlier one.
void softmax_again(float scale, float log_sum, Floats x);
// dp = p * (dp - <p, dp>) * scale
void softmax_backward(ConstFloats p, float scale, Floats dp);
// dp = p * (dp - mean) * scale: of a part of a softmax, whose whole <p, dp> is known.
void softmax_backward(ConstFloats p, float mean, float scale, Floats dp);

// Scores of a query with the positions up to its own -> what each breaks off a stick, from the last one on (spec::AttentionWeigh), and
// the part of what was left when it came to it that it took.
void break_stick(float scale, Floats scores, Floats parts);
// dweights -> the gradients of the scores, from what break_stick made.
void break_stick_backward(ConstFloats weights, ConstFloats parts, float scale, Floats dweights);

// Rotates pairs (i, i + n / 2); `sign` -1 turns back.
void rotate_pairs(Floats x, ConstFloats cosine, ConstFloats sine, float sign);

struct AdamStep {
  float learning_rate, beta1, beta2, eps, weight_decay;
  float gradient_scale;                  // clipping
  float bias_correction1, bias_correction2;  // 1 - beta^step
};
// One pass over weights, gradients and both moments (Loshchilov and Hutter 2019).
void adamw(const AdamStep& step, ConstFloats gradient, Floats weight, Floats first_moment, Floats second_moment);
// The same for a row of a matrix, the root of whose second moment is row_root * column_root (Shazeer and Stern 2018, "Adafactor").
// Without a first moment the gradient stands for it.
void adamw_factored(const AdamStep& step, ConstFloats gradient, float row_root, ConstFloats column_root, Floats weight,
                    Floats first_moment);
double add_squares(ConstFloats x, Floats y);  // y += x²; returns the sum of x²

}  // namespace moiety::train
