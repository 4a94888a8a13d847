// Rotary positions (Su et al. 2021, "RoFormer"): which numbers of a head turn together, how fast, and what a model does
// to reach positions beyond those it was trained on.
#pragma once

#include <vector>

namespace moiety::spec {

// Which two of a head's numbers are turned together.
enum class RopePairs {
  Halves,      // i and i + dim / 2: Hugging Face's layout, and ours
  Neighbours,  // 2i and 2i + 1: DeepSeek, and GGUF files of the llama architecture
};

enum class RopeScalingKind {
  None,
  Linear,   // all frequencies divided by `factor`
  Llama3,   // the slow ones divided by `factor`, the fast ones kept, a smooth step between
  Yarn,     // the same idea by the number of turns within the original positions (Peng et al. 2023, "YaRN")
  Factors,  // a divisor a frequency, one list for short contexts and one for long (LongRoPE, Ding et al. 2024)
};

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::None;
  float factor = 1;
  int original_positions = 0;  // what the model was trained on before it was stretched
  // Llama3: wavelengths above original / low_frequency are slow, below original / high_frequency fast.
  float low_frequency = 1, high_frequency = 4;
  // Yarn: frequencies that make more than beta_fast turns are kept, fewer than beta_slow divided by `factor`.
  float beta_fast = 32, beta_slow = 1;
  bool truncate = true;  // Yarn: the borders of the step fall on whole frequencies
  // Factors: long_factors count where a sequence may grow beyond original_positions.
  std::vector<float> short_factors, long_factors;
  // Cosines and sines are multiplied by this: all, or in a long context (Factors).
  float amplitude = 1, long_amplitude = 1;
};

struct RopeSpec {
  float theta = 10000.0f;
  RopePairs pairs = RopePairs::Halves;
  int dim = 0;  // the first so many of a head's numbers are turned; 0: all
  RopeScaling scaling;
};

// YaRN's amplitude for a stretch by `factor`: 0.1 * weight * ln(factor) + 1.
float yarn_amplitude(float factor, float weight = 1);

// The angle a position turns pair i, in radians: dim / 2 numbers. `long_context`: the sequence may grow beyond
// original_positions.
std::vector<float> frequencies(const RopeSpec& rope, int dim, bool long_context);

}  // namespace moiety::spec
