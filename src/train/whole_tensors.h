// Tensors of which ranks hold parts, put together in a file: numbers come to rank 0 while it writes, some at a time.
#pragma once

#include <vector>

#include "comm/group.h"
#include "train/part.h"

namespace moiety::train {

// `mine` are the same tensors on every rank, in the same order; every number must be on some rank, and of several the first one's
// counts. On rank 0 they become whole, to be written from first to last; on others there is nothing, and the call ends when rank 0
// has written all. `mine` must live until then. Collective. Without a group all is here.
std::vector<format::TensorSource> whole_tensors(const std::vector<TensorPart>& mine, comm::Group* group);

}  // namespace moiety::train
