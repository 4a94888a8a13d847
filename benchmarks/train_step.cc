// Whole training steps of a small model, as `moiety train` does them: forward, backward, AdamW. The text is a chain in which seven of
// ten tokens follow from the one before, the same for benchmarks/train_step.py's PyTorch side, so that losses can be compared.
//
//   train_step_benchmark f32|bf16 [STEPS]
//
// Prints a JSON object: the median step and its parts in seconds, the loss of every step.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "train/keep_memory.h"
#include "train/optimizer.h"
#include "train/transformer.h"

using namespace moiety;
using namespace moiety::train;

namespace {

constexpr int kVocab = 8192, kSequence = 256, kSequences = 8;

spec::ModelSpec model() {
  TrainConfig config;
  config.model = {.layers = 6, .width = 384, .heads = 6, .kv_heads = 6, .head_dim = 64, .experts = 16, .experts_per_token = 2,
                  .expert_hidden = 768, .qk_norm = "none"};
  config.train.sequence = kSequence;
  return model_spec(config, kVocab, 0);
}

class Chain {
 public:
  Batch next() {
    Batch batch;
    for (int row = 0; row < kSequences; ++row) {
      auto token = static_cast<int32_t>(draw() % kVocab);
      batch.segments.push_back({row * kSequence, kSequence});
      for (int i = 0; i < kSequence; ++i) {
        batch.tokens_T.push_back(token);
        const bool follows = draw() % 10 < 7;
        const auto any = static_cast<int32_t>(draw() % kVocab);
        token = follows ? (token * 7 + 13) % kVocab : any;
        batch.targets_T.push_back(token);
      }
    }
    return batch;
  }

 private:
  uint64_t draw() { return (state_ = state_ * 6364136223846793005u + 1442695040888963407u) >> 33; }  // Knuth's MMIX

  uint64_t state_ = 1;
};

double median(std::vector<double> x) {
  std::ranges::sort(x);
  return x[x.size() / 2];
}

// One thread is measured in processor time, which a busy machine disturbs less.
double now() {
  timespec time;
  clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string type = argc > 1 ? argv[1] : "";
  const int steps = argc > 2 ? std::atoi(argv[2]) : 12;
  if ((type != "f32" && type != "bf16") || steps < 3) {
    fmt::print(stderr, "train_step_benchmark f32|bf16 [STEPS, at least 3]\n");
    return 2;
  }
  keep_memory();
  at::set_num_threads(omp_get_max_threads());
  Weights weights(model());
  weights.initialise(model(), 1);
  if (type == "bf16") weights.keep_packed(model());
  Optimizer optimizer({.lr = 3e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = 0}, weights);
  Transformer transformer(model(), weights, {type == "f32" ? GemmType::F32 : GemmType::Bf16});

  Chain chain;
  std::vector<double> forward, backward, update, all, losses;
  for (int i = 0; i < steps; ++i) {
    const Batch batch = chain.next();
    const double start = now();
    const Losses loss = transformer.forward(batch, {.balance = 0.01f});
    const double forward_end = now();
    loss.total.backward();
    const double backward_end = now();
    optimizer.step(i, 3e-4);
    const double end = now();
    losses.push_back(loss.cross_entropy);
    if (i < 2) continue;  // memory comes into being
    forward.push_back(forward_end - start);
    backward.push_back(backward_end - forward_end);
    update.push_back(end - backward_end);
    all.push_back(end - start);
  }
  fmt::print("{{\"seconds\":{},\"forward\":{},\"backward\":{},\"optimizer\":{},\"losses\":[{:.4f}]}}\n", median(all), median(forward),
             median(backward), median(update), fmt::join(losses, ","));
  return 0;
}
