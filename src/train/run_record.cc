#include "train/run_record.h"

#include "train/hyper_parameters.h"

namespace moiety::train {

double training_flops_per_token(const spec::ModelSpec& spec, int64_t sequence) {
  constexpr double kForthAndBack = 3;
  const double parameters = 2 * static_cast<double>(spec.active_parameters());
  const double seen = static_cast<double>(sequence + 1) / 2;
  const double a_position = 2 * 2 * static_cast<double>(spec.attention.num_heads) * spec.attention.head_dim;  // scores, then values
  return kForthAndBack * (parameters + static_cast<double>(spec.num_layers) * seen * a_position);
}

void write_run_record(const TrainConfig& given, const TrainConfig& settled, const spec::ModelSpec& spec) {
  const TrainConfig::Train& train = settled.train;
  const Json json = {{"config", flat_config(given)},
                     {"lr", settled.optimizer.lr},
                     {"batch", train.batch},
                     {"accumulate", train.accumulate},
                     {"tokens_per_step", train.batch * train.accumulate * train.sequence},
                     {"vocabulary", spec.vocab_size},
                     {"parameters", spec.parameters()},
                     {"parameters_without_embeddings", parameters_without_embeddings(spec)},
                     {"active_parameters", spec.active_parameters()},
                     {"flops_per_token", training_flops_per_token(spec, train.sequence)}};
  write_file(fs::path(given.run.dir) / "run.json", json.dump(2) + "\n");
}

}  // namespace moiety::train
