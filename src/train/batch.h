// What one training step reads: rows of packed documents, and where each piece of a document begins and ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace moiety::train {

// A run of tokens that see each other: (a piece of) one document. Positions count from its start.
struct Segment {
  int begin = 0;
  int length = 0;
  int domain = 0;    // of the sampler's
  int position = 0;  // of its first token; above 0: other ranks have what stands before
  int document = 0;  // by which its other parts are known
  int64_t at = -1;   // of its first token, in the domain's token shard; -1: it is of none
};

// A token that is none of the vocabulary, in the token shard of a domain: the file is damaged.
struct Damage {
  int domain = 0;   // of the sampler's
  uint64_t at = 0;  // in the shard
  int64_t id = 0;
};

struct Ring;  // train/ring_attention.h

// Tokens of several sequences one after the other; segments never cross from one sequence to the next.
struct Batch {
  std::vector<int32_t> tokens_T;
  std::vector<int32_t> targets_T;  // the token that follows each; -1: don't count this position
  std::vector<Segment> segments;
  size_t sequence = 0;  // tokens of each sequence; 0: they are all one
  size_t first_token = 0;  // where this part of a pass begins in it
  std::shared_ptr<const Ring> ring;  // of ranks that have the other parts of its documents; null: none has any
  uint64_t draw = 0;  // what choices by chance follow from: gates (moe/gate.h) and SparseMixer; 0: gates choose as at inference

  std::optional<Damage> damage;  // the first of a whole pass; the batch has another token there

  // `count` of its tokens from `first` on, as a part of the same pass, of sequences that are no longer told apart.
  Batch tokens(size_t first, size_t count) const;
  // `count` of its sequences from `first` on, as a part of the same pass.
  Batch sequences(size_t first, size_t count) const;
  // Positions with a target.
  size_t num_targets() const;
  size_t num_sequences() const;
  int num_tokens() const { return static_cast<int>(tokens_T.size()); }
};

}  // namespace moiety::train
