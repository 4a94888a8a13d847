#include "train/rank_layout.h"

#include "base/error.h"
#include "train/ring_attention.h"

namespace moiety::train {

RankLayout::RankLayout(const TrainConfig::Ranks& config, comm::Group* ranks) : all_(ranks) {
  if (ranks == nullptr) {
    require(config.experts == 1, "ranks.experts is {}, and this process is alone", config.experts);
    require(config.sequence == 1, "ranks.sequence is {}, and this process is alone", config.sequence);
    return;
  }
  mesh_.emplace(*ranks, comm::MeshShape{.experts = static_cast<int>(config.experts), .sequence = static_cast<int>(config.sequence)});
  if (mesh_->experts() == nullptr) return;
  const int node = config.node > 0 ? static_cast<int>(config.node) : ranks->place().local_ranks;
  exchange_ = comm::make_exchange(config.dispatch, *mesh_->experts(), node);
  experts_.emplace(ExpertRanks{*mesh_->experts(), *exchange_, static_cast<int>(config.chunks), config.payload == "bf16"});
}

ExpertShare RankLayout::expert_share() const {
  return experts_ ? ExpertShare{experts_->group.rank(), experts_->group.size()} : ExpertShare{};
}

SumOverRanks RankLayout::sum() const {
  if (all_ == nullptr) return {};
  return [all = all_](std::span<double> numbers) { all->sum(numbers); };
}

Batch RankLayout::part_of(const Batch& pass) {
  if (all_ == nullptr) return pass;
  comm::Group* const together = mesh_->sequence();
  const size_t a_sequence = together == nullptr ? 1 : static_cast<size_t>(together->size());
  const size_t sequences = pass.num_sequences(), rank = static_cast<size_t>(all_->rank()) / a_sequence, ranks = static_cast<size_t>(all_->size()) / a_sequence;
  const size_t first = sequences * rank / ranks, end = sequences * (rank + 1) / ranks;
  Batch ours = pass.sequences(first, end - first);
  return together == nullptr ? ours : part_of_ring(ours, *together);
}

}  // namespace moiety::train
