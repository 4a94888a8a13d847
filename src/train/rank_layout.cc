#include "train/rank_layout.h"

#include "base/error.h"
#include "train/ring_attention.h"

namespace moiety::train {

namespace {

Lend lend_of(std::string_view name) { return name == "none" ? Lend::Nothing : name == "hot" ? Lend::Hot : Lend::All; }

}  // namespace

RankLayout::RankLayout(const TrainConfig::Ranks& config, comm::Group* ranks) : all_(ranks), chunks_(static_cast<int>(config.virtual_stages)) {
  if (ranks == nullptr) {
    require(config.stages == 1, "ranks.stages is {}, and this process is alone", config.stages);
    require(config.experts == 1, "ranks.experts is {}, and this process is alone", config.experts);
    require(config.sequence == 1, "ranks.sequence is {}, and this process is alone", config.sequence);
    return;
  }
  mesh_.emplace(*ranks, comm::MeshShape{.stages = static_cast<int>(config.stages), .experts = static_cast<int>(config.experts), .sequence = static_cast<int>(config.sequence)});
  if (mesh_->experts() == nullptr) return;
  const int node = config.node > 0 ? static_cast<int>(config.node) : ranks->place().local_ranks;
  exchange_ = comm::make_exchange(config.dispatch, *mesh_->experts(), node);
  experts_.emplace(ExpertRanks{*mesh_->experts(), *exchange_, static_cast<int>(config.chunks), config.payload == "bf16",
                               lend_of(config.lend), config.flops_a_byte});
}

ExpertShare RankLayout::expert_share() const {
  return experts_ ? ExpertShare{experts_->group.rank(), experts_->group.size()} : ExpertShare{};
}

StageShare RankLayout::stage_share() const { return mesh_ ? StageShare{mesh_->stage(), mesh_->stages(), chunks_} : StageShare{}; }

SumOverRanks RankLayout::sum_in_stage() {
  comm::Group* const stage = mesh_ ? mesh_->same_dense() : nullptr;
  if (stage == nullptr) return {};
  return [stage](std::span<double> numbers) { stage->sum(numbers); };
}

SumOverRanks RankLayout::sum() const {
  if (all_ == nullptr) return {};
  return [all = all_](std::span<double> numbers) { all->sum(numbers); };
}

Batch RankLayout::part_of(const Batch& pass) {
  if (all_ == nullptr) return pass;
  comm::Group* const together = mesh_->sequence();
  const size_t a_sequence = together == nullptr ? 1 : static_cast<size_t>(together->size());
  const size_t sequences = pass.num_sequences(), rank = static_cast<size_t>(mesh_->place_in_stage()) / a_sequence, ranks = static_cast<size_t>(mesh_->stage_size()) / a_sequence;
  const size_t first = sequences * rank / ranks, end = sequences * (rank + 1) / ranks;
  Batch ours = pass.sequences(first, end - first);
  return together == nullptr ? ours : part_of_ring(ours, *together);
}

}  // namespace moiety::train
