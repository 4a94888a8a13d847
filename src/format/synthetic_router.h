// Embeddings and routers that make a synthetic model's routing like that of trained ones, for any text: in each layer some
// experts are popular, their visits falling with rank as in Zipf's law, and tokens of one topic tend to the same experts, so
// that neighbours in a text share more of them than popularity alone explains.
//
// Every row of the embedding is a constant, plus a vector that the tokens of a topic share, plus one of its own; together they
// are large beside what layers add, so that each layer's router sees about that. A router's rows are along the constant as
// long as the expert is popular, and random otherwise: a logit is popularity plus chance, of which the topic is a part.
#pragma once

#include <vector>

#include "spec/model_spec.h"

namespace moiety::format {

enum class SyntheticRouting { Uniform, Skewed };

// Topics are runs of token ids of about the same length.
constexpr int kTopics = 64;
struct TokenRange {
  int begin = 0, end = 0;
};
// The tokens of the same topic as this one.
TokenRange topic_around(int token, int vocabulary);

// The chance that a token visits the expert of each rank: c / rank, at most 1, together `experts_per_token`.
std::vector<double> zipf_chances(int num_experts, int experts_per_token);

class SkewedRouting {
 public:
  explicit SkewedRouting(const spec::ModelSpec& spec);

  // [end - begin, D]
  std::vector<float> embedding(int begin, int end) const;
  // [E, D]
  std::vector<float> router(int layer) const;

 private:
  spec::ModelSpec spec_;
  std::vector<float> normal_;    // numbers that tokens' own vectors are cut out of
  std::vector<float> topics_;    // [kTopics, D]
  std::vector<double> offsets_;  // of a logit, by rank, in deviations of its random part
};

}  // namespace moiety::format
