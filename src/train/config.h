// A training run as its TOML file says it: every key has a default that works, every mistake is one sentence with the
// key and the line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "spec/model_spec.h"

namespace moiety::train {

struct DomainConfig {
  std::string name;
  std::string train;  // a text file or a folder of them
  std::string valid;  // empty: held out of `train`, by document
  double weight = 1;
};

struct TrainConfig {
  struct Run {
    std::string dir = "run";
    std::string from;  // a model to begin with; empty: random weights, of the sizes that `model` says
    int64_t seed = 1;
    int64_t threads = 0;  // 0: all
  } run;

  std::vector<DomainConfig> domains;

  struct Tokenizer {
    int64_t vocab_size = 4096;
    std::string file;        // an existing tokenizer.json instead of a new one
    int64_t sample_mb = 32;  // text that a new one is trained on
    std::string end_of_text = "<|endoftext|>";
  } tokenizer;

  struct Model {
    int64_t layers = 4, width = 128, heads = 4, kv_heads = 4, head_dim = 32;
    int64_t experts = 8, experts_per_token = 2, expert_hidden = 256, shared_hidden = 0;
    std::vector<int64_t> experts_by_layer;  // of MoE layers; empty: `experts` in each
    bool shared_gate = false, shared_mix = false, router_trained = true;
    int64_t iterations = 1, expert_width = 0;
    bool ternary_experts = false;
    int64_t gru_experts = 0, gru_hidden = 64;
    std::string momentum = "none";
    double momentum_decay = 0.7, momentum_square_decay = 0.999, momentum_step = 1;
    int64_t attention_experts = 0, attention_experts_per_token = 2;
    // The router's stages, by the names and in the order of spec::RouterRule
    std::string logit_activation = "none";
    double temperature = 1;
    std::string gate = "linear";
    int64_t gate_width = 64, gate_seed = 0;
    double gate_temperature = 0.07, gate_step = 4;
    bool gate_learns_temperature = true;
    std::string score = "softmax";
    bool gating_residual = false;
    std::string select = "top_k";
    int64_t groups = 1, groups_per_token = 0;  // 0: all of them
    std::string group_score = "best_two";
    double top_p = 0.5, threshold = 0, tsallis_q = 1.1, soft_entropy = 0.9;
    int64_t null_experts = 0, zero_experts = 0, copy_experts = 0, constant_experts = 0;
    std::string weigh = "scores";
    bool renormalise = true;
    double scale = 1;
    std::string attention_weights = "softmax";
    std::string qk_norm = "per_head";
    double rope_theta = 10000, norm_eps = 1e-5;
    bool tied_embeddings = false;
    int64_t dense_layers = 0, dense_hidden = 512, max_positions = 0;  // 0: the training sequence's length
    int64_t moe_every = 1, moe_offset = 0;  // after the first dense layers
  } model;

  struct Balance {
    std::string scope = "global";  // of aux_loss: micro, sequence, global
    double aux_loss = 0.01, zero_cost = 1, z_loss = 0.0001, bias_rate = 0;
    double entropy_loss = 0;     // of the routers' scores
    double cut_off_rate = 0.01;  // of expert choice: how fast the cut-offs' average follows
    double concentration = 0, mutual_information = 0;  // of the experts' mean probabilities, see SpreadTerm
    double consistency = 0;      // of two passes through random gates
  } balance;

  // How routers' rules change over the steps: train/rule_schedule.h.
  struct Anneal {
    int64_t experts_from = 0, experts_steps = 0;  // 0: model.experts_per_token from the start; 0: to the end of the run
    double lower_later = 0;
    double temperature_from = 0;  // 0: no change
    int64_t temperature_steps = 0;
    int64_t spawn_step = 0;  // until then there is one expert; 0: never
    double spawn_noise = 0.02;
    // Of which expert stands behind which output of the gate (train/permutation_search.h): over so many steps; 0: none.
    int64_t search_steps = 0;
    double search_temperature = 0.01, search_noise = 0.05, search_entropy = 0;
  } anneal;

  struct Optimizer {
    double lr = 0;  // 0: by the step law (train/step_law.h)
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1;
    std::string state = "f32";     // of both moments: f32, int8, factored
    bool shared = true;            // of several ranks each has the moments of some weights
    std::string offload = "none";  // or ssd: what memory_mb can't hold lies in a file
    int64_t memory_mb = 0, group = 1 << 20;  // MiB of offloaded state in memory; weights whose state is read and written at once
  } optimizer;

  struct Schedule {
    std::string kind = "wsd";
    int64_t warmup = 100;
    double min_lr = 0.1, decay = 0.2;  // shares: of lr, of the steps
  } schedule;

  struct Train {
    int64_t steps = 1000;
    double minutes = 0;  // 0: as many steps as `steps` says
    int64_t sequence = 256, batch = 0, accumulate = 1;  // batch 0: by the step law
    std::string precision = "f32";  // of matrix products: f32, bf16
    bool packed = true;             // in bf16: weights are kept as products read them, too
    std::string keep = "products";  // what experts leave for their gradients: products, inputs
    double capacity = 0;            // times the mean load that an expert takes at most; 0: all that come
    int64_t receive_budget = 0, receive_sets = 1;  // moe::ReceiveBudget
    std::string recompute = "none";  // layers: of each only its input is kept for its gradients
    int64_t frozen_experts = 0, frozen_attention_experts = 0;  // above 0: only later experts and the routers learn
    double cluster_tokens = 1;       // experts see so many clusters of similar tokens a visit (train/token_clusters.h)
    bool cluster_residual = true;
    int64_t round_tokens = 0;        // experts' token counts are rounded to multiples of this; 0: they are not
  } train;

  // Several processes: what they share (comm/mesh.h) and how tokens get to their experts (train/spread_experts.h).
  struct Ranks {
    int64_t stages = 1, virtual_stages = 1;  // of a pipeline, and chunks of layers that each has
    int64_t sequence = 1;                  // so many neighbouring ranks have a part of each sequence
    int64_t tensor = 1;                    // so many neighbouring ranks share each dense matrix (train/slices.h)
    int64_t experts = 1;                   // so many ranks share the experts of each layer; 1: every rank has all
    std::string dispatch = "all_to_all";  // all_to_all, all_gather, two_level
    int64_t chunks = 1;                    // a pass's tokens go in so many parts, of which one is computed with while others travel
    std::string payload = "f32";          // of rows on their way: f32, bf16
    std::string lend = "none";             // experts whose weights travel instead of tokens: none, hot, all
    double flops_a_byte = 100;             // what a rank computes while it sends a byte: how "hot" weighs
    int64_t rebalance = 0;                 // steps between two looks at which experts should change ranks; 0: none ever does
    int64_t node = 0;                      // ranks of a node; 0: as the launcher says
  } ranks;

  // train/bad_step.h
  struct BadSteps {
    std::string policy = "skip";  // skip, roll_back, stop
    double loss = 10, norm = 10;  // spreads above the median from which on a step is bad; 0: whatever it is, if it is a number
    int64_t window = 100;         // good steps that median and spread are of
    int64_t most = 10;            // of the last so many steps; with another one the run stops
    int64_t back = 10;            // steps that a checkpoint lies behind at least to be rolled back to
  } bad_steps;

  struct Validate {
    int64_t every = 0, batches = 8;  // 0: only at the end; 0: all
    double held_out = 0.02;
  } validate;

  struct Checkpoint {
    int64_t every = 0;  // steps; 0: by the clock alone
    double minutes = 10;
    int64_t keep = 2;
  } checkpoint;

  struct Trace {
    std::string file;     // a routing trace to add to; empty: none
    int64_t every = 100;  // steps
  } trace;
};

// `overrides` are "section.key=value" in TOML's words, as --set has them.
TrainConfig parse_config(std::string_view toml, const std::string& where, const std::vector<std::string>& overrides);

// The whole configuration as TOML.
std::string print_config(const TrainConfig& config);

// The whole configuration as one flat object: "section.key" -> value, "domain.NAME.key" for domains.
Json flat_config(const TrainConfig& config);

// The model that the configuration describes, with this many tokens.
spec::ModelSpec model_spec(const TrainConfig& config, int vocab_size, int end_of_text);

}  // namespace moiety::train
