// What a rank has of a run: who shares experts and sequences with it, its part of every pass, and what all sum up.
#pragma once

#include <memory>
#include <optional>

#include "comm/mesh.h"
#include "train/balance.h"
#include "train/batch.h"
#include "train/config.h"
#include "train/spread_experts.h"
#include "train/weights.h"

namespace moiety::train {

class RankLayout {
 public:
  // `ranks`: nullptr if this process is alone; else collective, and it must outlive this. Throws Error(Input) if ranks can't share as
  // `config` says.
  RankLayout(const TrainConfig::Ranks& config, comm::Group* ranks);

  comm::Group* all() const { return all_; }
  comm::Mesh* mesh() { return mesh_ ? &*mesh_ : nullptr; }
  bool is_first() const { return all_ == nullptr || all_->is_first(); }
  // nullptr: this rank has all experts itself.
  const ExpertRanks* experts() const { return experts_ ? &*experts_ : nullptr; }
  ExpertShare expert_share() const;
  StageShare stage_share() const;
  // The ranks that share dense matrices with this one; nullptr: it has them whole.
  comm::Group* tensor();
  TensorShare tensor_share();
  // Empty if there is one rank. The second is over the ranks that have the same layers.
  SumOverRanks sum() const;
  SumOverRanks sum_in_stage();
  // The sequences of a pass that this rank computes, or its parts of them: neighbours, and one more or less than any other ranks'.
  Batch part_of(const Batch& pass);

 private:
  comm::Group* all_;
  int chunks_;
  std::optional<comm::Mesh> mesh_;
  std::unique_ptr<comm::Exchange> exchange_;
  std::optional<ExpertRanks> experts_;
};

}  // namespace moiety::train
