// Which tokens a training step sees. A function of the seed and a few integers, so that a run resumes in the middle of
// an epoch without repeating or skipping a token.
//
// An epoch of a domain: its documents in a shuffled order, joined, cut into windows of a sequence's length; the windows
// in a shuffled order of their own, so that one long document does not fill a batch.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "train/batch.h"
#include "train/shard.h"

namespace moiety::train {

// Where a domain is: all that has to be remembered of it.
struct DomainPosition {
  uint64_t epoch = 0;
  uint64_t window = 0;  // of the epoch, in its shuffled order
  uint64_t rows = 0;    // windows taken so far, over all epochs
};

class DomainStream {
 public:
  // `shuffle_seed` empty: documents and windows in the order of the shard, for validation.
  DomainStream(std::string name, const Shard& shard, size_t sequence, std::optional<uint64_t> shuffle_seed,
               DomainPosition position = {});

  const std::string& name() const { return name_; }
  const DomainPosition& position() const { return position_; }
  size_t windows_per_epoch() const { return windows_; }

  // Appends one sequence to the batch: always `sequence` tokens. The last window of an epoch may be shorter; what is
  // missing is filled with tokens that aren't counted. For tokens that are none of the vocabulary stand others, and Batch::damage says so.
  void take(Batch& batch);
  void add_window(uint64_t window, Batch& batch) const;

 private:
  void start_epoch();
  int32_t token(uint64_t at, Batch& batch) const;

  std::string name_;
  const Shard& shard_;
  size_t sequence_, windows_;
  std::optional<uint64_t> shuffle_seed_;
  DomainPosition position_;
  // Of the current epoch:
  std::vector<uint32_t> documents_;    // in their order
  std::vector<uint64_t> begins_;       // of each, in the joined text
  std::vector<uint32_t> window_order_;
};

class Sampler {
 public:
  struct Domain {
    std::string name;
    const Shard* shard = nullptr;
    double weight = 1;
  };
  Sampler(const std::vector<Domain>& domains, size_t sequence, uint64_t seed);

  Batch next(size_t sequences);

  // For the checkpoint.
  Json state() const;
  void restore(const Json& state, const std::string& where);

 private:
  size_t next_domain() const;

  std::vector<Domain> domains_;
  size_t sequence_;
  uint64_t seed_;
  std::vector<DomainStream> streams_;
};

}  // namespace moiety::train
