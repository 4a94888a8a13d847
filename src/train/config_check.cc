#include "train/config_check.h"

#include <algorithm>

#include "base/error.h"
#include "train/slices.h"

namespace moiety::train {

bool is_moe_layer(const TrainConfig::Model& m, int64_t layer) {
  return layer >= m.dense_layers && (layer - m.dense_layers) % m.moe_every == m.moe_offset;
}

namespace {

void check_routing(const TrainConfig& c, const std::string& where) {
  require(c.train.receive_budget == 0 || (c.model.select != "expert_choice" && c.model.weigh != "sparse_mixer"),
          "{}: train.receive_budget goes by choices that a token makes by itself, not with model.select = \"expert_choice\" or "
          "model.weigh = \"sparse_mixer\"", where);
  require((c.balance.concentration == 0 && c.balance.mutual_information == 0) || c.train.receive_budget == 0,
          "{}: balance.concentration and balance.mutual_information are of all tokens of a pass, which train.receive_budget may take apart",
          where);
  require(c.balance.mutual_information == 0 || c.model.select != "tsallis",
          "{}: balance.mutual_information is of Shannon's entropy; model.select = \"tsallis\" has another", where);
  const TrainConfig::Anneal& a = c.anneal;
  const bool freezes = c.train.frozen_experts + c.train.frozen_attention_experts > 0;
  require(!freezes || (a.search_steps == 0 && a.spawn_step == 0),
          "{}: train.frozen_experts are the first ones, which anneal.search_steps and anneal.spawn_step move", where);
  require((!freezes && a.search_steps == 0) || c.model.gru_experts == 0,
          "{}: train.frozen_experts and anneal.search_steps are about experts of one kind, not with model.gru_experts", where);
  const int64_t experts = c.model.experts + c.model.gru_experts;
  require(a.experts_from <= experts, "{}: anneal.experts_from ({}) is more than model.experts ({})", where, a.experts_from, experts);
  require(a.spawn_step == 0 || c.model.gru_experts == 0,
          "{}: anneal.spawn_step makes experts copies of the first, which model.gru_experts can't be", where);
  const bool open_ended = (a.experts_from > 0 && a.experts_steps == 0) || (a.temperature_from > 0 && a.temperature_steps == 0);
  require(c.train.minutes == 0 || !open_ended,
          "{}: with train.minutes nobody knows where the run ends: anneal.experts_steps and anneal.temperature_steps must say how long",
          where);
  require(c.train.minutes > 0 || a.spawn_step < c.train.steps, "{}: anneal.spawn_step ({}) is not before the end, train.steps ({})",
          where, a.spawn_step, c.train.steps);
  require(a.search_steps == 0 || (c.model.iterations == 1 && c.train.capacity == 0 && c.train.receive_budget == 0),
          "{}: anneal.search_steps sends tokens to experts that no router chose: it does not go with model.iterations, train.capacity or "
          "train.receive_budget", where);
  require(a.search_steps == 0 || c.train.minutes > 0 || a.spawn_step + a.search_steps < c.train.steps,
          "{}: the search of anneal.search_steps ({}) does not end before the run, train.steps ({})", where, a.search_steps, c.train.steps);
  require(c.train.receive_sets <= experts, "{}: train.receive_sets ({}) is more than model.experts ({})", where,
          c.train.receive_sets, experts);
  require(c.train.receive_budget == 0 || c.train.capacity == 0,
          "{}: train.capacity turns visits away and train.receive_budget takes them all in smaller pieces; set one of them", where);
  const int64_t a_token = std::min(std::max(c.model.experts_per_token, a.experts_from),
                                   (experts + c.train.receive_sets - 1) / c.train.receive_sets);
  require(c.train.receive_budget == 0 || c.train.receive_budget >= a_token * c.train.sequence,
          "{}: train.receive_budget is {}, expected at least the {} rows that one sequence may need", where, c.train.receive_budget,
          a_token * c.train.sequence);
}

// What spec::check can't know, or says without the keys' names.
void check_router(const TrainConfig& c, const std::string& where) {
  const TrainConfig::Model& m = c.model;
  const int64_t choices = m.experts + m.gru_experts + m.null_experts + m.zero_experts + m.copy_experts + m.constant_experts;
  require(m.experts_per_token <= choices, "{}: model.experts_per_token ({}) is more than model.experts ({}){}", where,
          m.experts_per_token, m.experts, choices > m.experts ? ", GRUs and those that cost nothing together" : "");
  require(m.groups_per_token <= m.groups, "{}: model.groups_per_token ({}) is more than model.groups ({})", where,
          m.groups_per_token, m.groups);
  require(m.select != "grouped" || m.groups > 1, "{}: model.select = \"grouped\" needs model.groups above 1", where);
  require(m.score == "softmax" || (m.select != "top_p" && m.select != "tsallis"),
          "{}: model.select = \"{}\" adds up scores, which must be softmax's, not \"{}\"", where, m.select, m.score);
  require(m.weigh != "sparse_mixer" || (m.score == "logits" && !m.renormalise),
          "{}: model.weigh = \"sparse_mixer\" needs model.score = \"logits\" and model.renormalise = false", where);
  require(m.score != "logits" || !m.renormalise, "{}: model.score = \"logits\" needs model.renormalise = false: logits have no sum to divide by",
          where);
  require(m.select != "expert_choice" || c.balance.bias_rate == 0,
          "{}: balance.bias_rate with model.select = \"expert_choice\", whose bias holds the experts' cut-offs", where);
}

void check_clusters(const TrainConfig& c, const std::string& where) {
  require(c.train.cluster_tokens == 1 || c.model.gru_experts == 0,
          "{}: train.cluster_tokens makes one of several tokens, not with model.gru_experts, which see them in their order", where);
}

void check_stages(const TrainConfig& c, const std::string& where) {
  const int64_t stages = c.ranks.stages, chunks = c.ranks.virtual_stages;
  require(stages > 1 || chunks == 1, "{}: ranks.virtual ({}) is of a pipeline's stages, and ranks.stages is 1", where, chunks);
  if (stages == 1) return;
  const auto all_layers = [&](bool is_asked, std::string_view key) {
    require(!is_asked, "{}: {} looks at all layers at once, of which ranks.stages = {} gives each rank some", where, key, stages);
  };
  all_layers(c.anneal.search_steps > 0, "anneal.search_steps");
  all_layers(c.anneal.spawn_step > 0, "anneal.spawn_step");
  all_layers(c.train.frozen_experts + c.train.frozen_attention_experts > 0, "train.frozen_experts");
  all_layers(c.balance.consistency > 0, "balance.consistency");
  all_layers(!c.trace.file.empty(), "trace.file");
  require(chunks == 1 || c.train.accumulate % stages == 0,
          "{}: with ranks.virtual = {} micro-batches go through the stages in groups of ranks.stages = {}, of which train.accumulate = {} is no multiple",
          where, chunks, stages, c.train.accumulate);
}

void check_ranks(const TrainConfig& c, const std::string& where) {
  const TrainConfig::Model& m = c.model;
  const auto whole = [&](bool wanted, const char* key) {
    require(!wanted, "{}: {} looks at whole sequences, of which ranks.sequence = {} gives each rank a part", where, key, c.ranks.sequence);
  };
  const auto together = [&](bool is_asked, std::string_view key) {
    require(c.ranks.experts == 1 || !is_asked, "{}: {} looks at all experts of a layer at once, which ranks.experts = {} spreads over ranks",
            where, key, c.ranks.experts);
  };
  together(c.anneal.search_steps > 0, "anneal.search_steps");
  together(c.anneal.spawn_step > 0, "anneal.spawn_step");
  together(c.train.frozen_experts + c.train.frozen_attention_experts > 0, "train.frozen_experts");
  require(c.ranks.rebalance == 0 || c.ranks.experts > 1, "{}: ranks.rebalance moves experts from rank to rank, and with ranks.experts = 1 each has all", where);
  check_stages(c, where);
  if (c.ranks.tensor > 1) {
    require(c.balance.scope != "sequence" && c.trace.file.empty(),
            "{}: balance.scope = \"sequence\" and trace.file look at whole sequences, whose tokens ranks.tensor = {} shares out", where, c.ranks.tensor);
    require(c.optimizer.state != "factored", "{}: optimizer.state = \"factored\" is of whole matrices, of which ranks.tensor = {} gives each rank slices",
            where, c.ranks.tensor);
  }
  if (c.ranks.sequence == 1) return;
  whole(m.attention_weights != "softmax", "model.attention_weights = \"stick_breaking\"");
  whole(m.gru_experts > 0, "model.gru_experts");
  whole(m.gate == "random", "model.gate = \"random\"");
  whole(m.weigh == "sparse_mixer", "model.weigh = \"sparse_mixer\"");
  whole(c.balance.scope == "sequence", "balance.scope = \"sequence\"");
  whole(!c.trace.file.empty(), "trace.file");
  require(c.train.sequence >= 2 * c.ranks.sequence, "{}: train.sequence ({}) must be at least twice ranks.sequence ({})", where, c.train.sequence,
          c.ranks.sequence);
}

// A layer is computed again by itself, from its input and its routing.
void check_recompute(const TrainConfig& c, const std::string& where) {
  const TrainConfig::Model& m = c.model;
  const bool passes_state = m.gate == "recurrent" || m.gate == "ahead" || m.gate == "decoupled" || m.gating_residual || m.momentum != "none";
  require(c.train.recompute == "none" || (!passes_state && c.balance.consistency == 0),
          "{}: train.recompute = \"layers\" needs layers that hand on nothing but their output: no recurrent, ahead or decoupled gate, no "
          "gating residual, no momentum, no consistency", where);
  const bool is_plain = m.null_experts + m.zero_experts + m.copy_experts + m.constant_experts == 0 && m.weigh == "scores" &&
                        m.select != "expert_choice";
  require(c.train.round_tokens == 0 || is_plain,
          "{}: train.round_tokens changes the choice that tokens make among real experts: it does not go with experts that cost nothing, "
          "sparse_mixer or expert_choice", where);
  require(c.train.round_tokens == 0 || c.train.receive_budget == 0,
          "{}: train.round_tokens is of a whole pass, which train.receive_budget takes apart", where);
}

int64_t count_moe_layers(const TrainConfig::Model& m) {
  int64_t count = 0;
  for (int64_t layer = 0; layer < m.layers; ++layer) count += is_moe_layer(m, layer);
  return count;
}

}  // namespace

void check(const TrainConfig& c, const std::string& where) {
  double weight = 0;
  for (const DomainConfig& domain : c.domains) weight += domain.weight;
  require(c.domains.empty() || weight > 0, "{}: all domains have weight 0", where);
  require(c.model.heads % c.model.kv_heads == 0, "{}: model.heads ({}) must be a multiple of model.kv_heads ({})",
          where, c.model.heads, c.model.kv_heads);
  require(c.model.head_dim % 2 == 0, "{}: model.head_dim is {}, expected an even number", where, c.model.head_dim);
  check_router(c, where);
  require(c.model.router_trained || c.model.gate == "linear", "{}: model.router_trained = false needs model.gate = \"linear\", found \"{}\"",
          where, c.model.gate);
  require(c.balance.consistency == 0 || c.train.receive_budget == 0,
          "{}: balance.consistency passes a batch twice, which train.receive_budget can't take apart", where);
  require(c.balance.consistency == 0 || c.model.gate == "random",
          "{}: balance.consistency is of two passes that visit different experts, which takes model.gate = \"random\", found \"{}\"",
          where, c.model.gate);
  require(c.model.dense_layers <= c.model.layers, "{}: model.dense_layers ({}) is more than model.layers ({})", where,
          c.model.dense_layers, c.model.layers);
  check_routing(c, where);
  check_recompute(c, where);
  check_clusters(c, where);
  check_ranks(c, where);
  require(c.optimizer.offload == "none" || c.optimizer.state != "factored",
          "{}: optimizer.offload is \"{}\", expected \"none\" with optimizer.state \"factored\"", where, c.optimizer.offload);
  require(c.bad_steps.most < c.bad_steps.window, "{}: bad_steps.most ({}) is of the last bad_steps.window ({}) steps and must be less", where,
          c.bad_steps.most, c.bad_steps.window);
  require(c.bad_steps.policy != "roll_back" || (c.anneal.spawn_step == 0 && c.anneal.search_steps == 0),
          "{}: anneal.spawn_step and anneal.search_steps make experts others than a checkpoint of before has, to which bad_steps.policy = "
          "\"roll_back\" goes back", where);
  const int64_t moe_layers = count_moe_layers(c.model);
  require(c.model.experts_by_layer.empty() || static_cast<int64_t>(c.model.experts_by_layer.size()) == moe_layers,
          "{}: model.experts holds {} numbers, but {} of the layers have experts", where, c.model.experts_by_layer.size(), moe_layers);
  require(c.model.moe_offset < c.model.moe_every, "{}: model.moe_offset ({}) must be less than model.moe_every ({})", where,
          c.model.moe_offset, c.model.moe_every);
  if (c.ranks.tensor > 1 && c.run.from.empty()) check_slices(model_spec(c, /*vocab_size=*/1, /*end_of_text=*/0), {.ranks = static_cast<int>(c.ranks.tensor)});
  require(c.train.batch * c.train.sequence <= (1 << 24), "{}: train.batch * train.sequence is {}, expected at most {}",
          where, c.train.batch * c.train.sequence, 1 << 24);
}

}  // namespace moiety::train
