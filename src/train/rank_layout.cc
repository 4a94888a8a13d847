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
    require(config.tensor == 1, "ranks.tensor is {}, and this process is alone", config.tensor);
    return;
  }
  mesh_.emplace(*ranks, comm::MeshShape{.stages = static_cast<int>(config.stages),
                                       .tensor = static_cast<int>(config.tensor),
                                       .experts = static_cast<int>(config.experts),
                                       .sequence = static_cast<int>(config.sequence)});
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

comm::Group* RankLayout::tensor() { return mesh_ ? mesh_->tensor() : nullptr; }

TensorShare RankLayout::tensor_share() {
  return tensor() == nullptr ? TensorShare{} : TensorShare{tensor()->rank(), tensor()->size()};
}

SumOverRanks RankLayout::sum() const {
  if (all_ == nullptr) return {};
  return [all = all_](std::span<double> numbers) { all->sum(numbers); };
}

Batch RankLayout::part_of(const Batch& pass) {
  if (all_ == nullptr) return pass;
  const auto size_of = [](const comm::Group* group) { return group == nullptr ? 1 : static_cast<size_t>(group->size()); };
  const size_t together = size_of(mesh_->sequence()) * size_of(tensor());
  const auto share = [](size_t count, size_t rank, size_t ranks) {
    const size_t first = count * rank / ranks, end = count * (rank + 1) / ranks;
    return std::pair(first, end - first);
  };
  const auto [first, sequences] = share(pass.num_sequences(), static_cast<size_t>(mesh_->place_in_stage()) / together, static_cast<size_t>(mesh_->stage_size()) / together);
  Batch ours = pass.sequences(first, sequences);
  if (mesh_->sequence() != nullptr) ours = part_of_ring(ours, *mesh_->sequence());
  if (tensor() == nullptr) return ours;
  const auto [token, tokens] = share(static_cast<size_t>(ours.num_tokens()), static_cast<size_t>(tensor()->rank()), size_of(tensor()));
  return ours.tokens(token, tokens);
}

}  // namespace moiety::train
