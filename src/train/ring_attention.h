// Attention over documents of which several ranks have a part each (Liu et al. 2023, "Ring attention with blockwise transformers for
// near-infinite context"): keys and values go round, and every rank's queries meet each rank's keys once. No rank ever has more than two
// ranks' keys; what goes out next travels while products are computed. On the way back the gradients of keys and values go round behind
// them and come home. Plain arithmetic on matrices: no torch, no graph.
#pragma once

#include <vector>

#include "base/matrix.h"
#include "comm/group.h"
#include "train/attention.h"
#include "train/batch.h"

namespace moiety::train {

// What the ranks of a group have of a pass.
struct Ring {
  comm::Group& group;
  std::vector<std::vector<Segment>> segments_R;  // parts of documents
  std::vector<size_t> tokens_R;
};

// This rank's part of the sequences that a group of R shares, with its ring. Each sequence is cut in 2 R stretches: rank r has the r-th and the
// r-th from the end, so that all have as many keys to look at.
Batch part_of_ring(const Batch& whole, comm::Group& group);

struct RingSettings {
  HeadLayout layout;
  float factor;  // of products of queries and keys
  GemmType type;
};

// Rows are this rank's tokens: rotated queries and then keys, and values; writes the mixed values, and the log of every softmax's sum of
// exponentials [heads, T]. Collective.
void ring_forward(const Ring& ring, const RingSettings& settings, MatrixView<const float> rotated_TQ, MatrixView<const float> value_TK,
                  MatrixView<float> out_TD, MatrixView<float> log_sum_HT);
// Writes the gradients of rotated queries and keys, and of values. Collective.
void ring_backward(const Ring& ring, const RingSettings& settings, MatrixView<const float> rotated_TQ, MatrixView<const float> value_TK,
                   MatrixView<const float> out_TD, MatrixView<const float> log_sum_HT, MatrixView<const float> dout_TD,
                   MatrixView<float> drotated_TQ, MatrixView<float> dvalue_TK);

}  // namespace moiety::train
