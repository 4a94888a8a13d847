// What keeps a layer's experts equally busy, its logits small and its tokens decided: losses on the router's scores, each with its
// gradient. Experts that cost nothing count among the C choices; null experts as their average (Zeng et al. 2024, "AdaMoE").
// The third way, a bias that steers the choice without a loss, is moe::update_selection_bias.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "moe/route.h"

namespace moiety::train {

// Over which tokens a layer's experts are to be equally busy.
enum class BalanceScope {
  Micro,     // those of the pass (Fedus et al. 2021, "Switch")
  Sequence,  // those of each sequence by itself (DeepSeek-AI 2024, "DeepSeek-V3")
  Global,    // those of the step, over all its passes (Qiu et al. 2025, "Demons in the detail")
};

// Numbers that become their sums over all ranks (comm::Group::sum); empty: there is one.
using SumOverRanks = std::function<void(std::span<double>)>;

struct Balancing {
  BalanceScope scope = BalanceScope::Micro;
  size_t sequence = 0;  // tokens of each sequence of the pass; 0: they are all one
  // [C], or empty: visits of all choices that count beside the pass's own (not for Sequence). With Global these are the visits of the step's
  // passes so far, so that pass m goes by the visits of passes 1 to m: their f_e is the step's own at the last, and grows
  // towards it before; the later ones can't be known without running the model twice. It is what the paper does ("buffer").
  std::span<const int64_t> others_E;
  float zero_cost = 1;  // what f of experts that cost nothing is multiplied with in the loss (Jin et al. 2024, "MoE++")
  SumOverRanks sum_over_ranks;  // each rank has some sequences of the pass and counts their visits (not for Sequence)
  bool with_entropy = false;  // whether the entropy's loss is wanted, which takes a logarithm a score
};

// E * sum over experts of f_e * p_e, times `zero_cost` for those that cost nothing: f_e the share of the visits that expert e gets,
// p_e its mean probability, which is the scores of a token made to sum to one. 1 is even. No gradient flows through f, so the loss
// is linear in the probabilities: all of it is one slope an expert.
struct BalanceTerm {
  float loss = 0;
  size_t group_tokens = 0;       // the tokens of a group share their slopes: a sequence's, or all
  Matrix<float> slope_GE;        // d(loss) / d(probability of expert e at a token of group g)
  std::vector<double> wanted_E;  // sum of the probabilities over this rank's tokens
  std::vector<double> mean_E;    // mean of the probabilities over all ranks' tokens
};

// `routing` holds every visit that was wanted, also those that capacity turned away, as in Switch.
BalanceTerm balance_term(const Balancing& balancing, const spec::RouterRule& rule, MatrixView<const float> scores_TE,
                         const moe::Routing& routing);
// Adds dloss * d(loss) / d(scores of token t).
void add_balance_gradient(const spec::RouterRule& rule, const BalanceTerm& term, float dloss, size_t t,
                          std::span<const float> scores_E, std::span<float> dscores_E);
// The same loss of many passes together, from what they sum up to; 0 without visits.
double balance_of_sums(std::span<const int64_t> visits_E, std::span<const double> wanted_E, double tokens);

// Mean of (log of the sum of exp(logits))² (Zoph et al. 2022, "ST-MoE"), and dloss times its gradient at one of `tokens`.
float z_loss(std::span<const float> log_sum_T);
void add_z_gradient(float dloss, size_t tokens, float log_sum, std::span<const float> logits_E, std::span<float> dlogits_E);

// Mean over the tokens of their scores' entropy: Shannon's (Huang et al. 2024, "Harder tasks need more experts"), for Select::Tsallis
// that of its index (Li et al. 2025, "DynMoLE"); and dloss times its gradient at one of `tokens`.
float entropy_loss(const spec::RouterRule& rule, MatrixView<const float> scores_TC);
void add_entropy_gradient(const spec::RouterRule& rule, float dloss, size_t tokens, std::span<const float> scores_C,
                          std::span<float> dscores_C);

// The entropy of the experts' mean probabilities (BalanceTerm::mean_E): log E if all are wanted alike, 0 if one alone is.
// Made smaller, it concentrates the load, so that some experts can be done without; made larger, together with a smaller entropy of each
// token's, it is the mutual information of token and expert (both: Shen et al. 2023, "ModuleFormer").
struct SpreadTerm {
  float loss = 0;
  std::vector<float> slope_E;  // d(loss) / d(probability of expert e at any of `tokens`)
};
// With several ranks, whose losses count by their shares of the tokens, `tokens` are the rank's own.
SpreadTerm spread_term(std::span<const double> mean_E, size_t tokens);
// Adds dloss * d(loss) / d(scores of a token).
void add_spread_gradient(const spec::RouterRule& rule, const SpreadTerm& term, float dloss, std::span<const float> scores_E,
                         std::span<float> dscores_E);

// Mean over the tokens of the entropy of their probabilities, over log E: 1 undecided, 0 sure. For the metrics.
double router_entropy(const spec::RouterRule& rule, MatrixView<const float> scores_TE);

}  // namespace moiety::train
