// Tensors of which ranks hold some experts each, put together in a file: numbers come to rank 0 while it writes, some at a time.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "comm/group.h"
#include "format/tensor.h"

namespace moiety::train {

// Whether a tensor is a stack of experts: its name, or what follows its first point ("first_moment.NAME"), is one of `stacks`.
bool is_stack(const format::TensorSource& tensor, const std::set<std::string>& stacks);

// `mine` are the same f32 tensors on every rank, in the same order; stacks have this rank's experts. On rank 0 the stacks become whole,
// those of all ranks in their order, to be written from first to last; on others they stay as they are, for send_tensors, which
// ends when rank 0 has written them. Both are collective.
std::vector<format::TensorSource> whole_tensors(std::vector<format::TensorSource> mine, const std::set<std::string>& stacks, comm::Group& group);
void send_tensors(const std::vector<format::TensorSource>& mine, const std::set<std::string>& stacks, comm::Group& group);

}  // namespace moiety::train
