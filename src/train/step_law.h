// The learning rate and the batch that a model of a size wants for an amount of text: Li et al. 2025, "Predictable Scale: Part I,
// Step Law" (arXiv 2503.04715), power laws fitted to 3,700 training runs,
//
//     lr = 1.79 N^-0.713 D^0.307        batch = 0.58 D^0.571 tokens
//
// N are all parameters but the embedding and output matrices; of a mixture of experts all experts count, visited or not: the paper
// finds the optimum independent of how many are active. D are the tokens of the whole run. The paper's
// models have up to a billion parameters and see billions of tokens; where models are smaller the law is a good place to start, and a
// sweep has the last word.
#pragma once

namespace moiety::train {

struct HyperParameters {
  double lr = 0;            // the peak
  double batch_tokens = 0;  // a step
};

// Both above 0.
HyperParameters step_law(double parameters, double tokens);

// The batch, in tokens, of a run whose length is given in steps: the one that the law gives for steps * batch tokens.
double step_law_batch(double steps);

}  // namespace moiety::train
