// What each stretch of a document in a step has cost, so that of a bad step the text can be named that made it so.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "comm/group.h"
#include "train/batch.h"
#include "train/prepare.h"

namespace moiety::train {

struct TextLoss {
  int64_t domain = 0;
  int64_t at = 0;      // of its first token, in the domain's token shard
  int64_t tokens = 0;  // with a target
  double nats = 0;     // of all of them
};

// Of each segment of the batch that is of a document and has targets; `nats_T` has 0 where there is none, or is empty: nobody knows here.
void add_text_losses(const Batch& batch, std::span<const float> nats_T, std::vector<TextLoss>& losses);

// The one that has cost most beyond the mean; before all others one whose loss is no number. Nothing if there are none. With `ranks` of all of
// them: collective, and the same on each.
std::optional<TextLoss> worst_text(const std::vector<TextLoss>& losses, comm::Group* ranks);

// Where that is: for people, and for who looks into the file.
struct TextPlace {
  std::string domain;
  uint64_t document = 0, token = 0;  // of the domain's, of the document's
  fs::path file;
  uint64_t byte = 0;
};
TextPlace place_in_text(const PreparedData& data, int64_t domain, uint64_t at);

}  // namespace moiety::train
