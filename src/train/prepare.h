// From text to what training reads: a tokenizer and token shards in the run's folder, made once and made again when
// the text, the tokenizer or the way of cutting has changed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "train/config.h"
#include "train/shard.h"

namespace moiety::train {

struct PreparedDomain {
  std::string name;
  double weight = 1;
  std::unique_ptr<Shard> train, valid;
};

struct PreparedData {
  fs::path tokenizer;  // run/tokenizer.json
  int vocab_size = 0;
  int end_of_text = 0;
  std::vector<PreparedDomain> domains;
};

// Shows its progress on stderr; `threads` 0 means all.
PreparedData prepare_data(const TrainConfig& config, int threads);

}  // namespace moiety::train
