// How a weight lies in the tensor that holds it. Most tensors are one weight; some files put two into one, or turn them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "format/tensor.h"
#include "spec/weight.h"

namespace moiety::format {

// [out, in] is the weight's own shape. Stacks of experts have [E] in front of it.
enum class Layout {
  Plain,
  FirstHalf, SecondHalf,   // the first and the last rows of [2 out, in]
  Planes,                  // MXFP4: nibbles U8 [out, in / 32, 16], and a tensor of scales beside it U8 [out, in / 32]
  EvenPlanes, OddPlanes,   // every second row of such a pair of [2 out, …]
  Transposed,              // [in, out]
  EvenColumns, OddColumns, // every second column of [in, 2 out]
  Even, Odd,               // every second number of a vector [2 n]
  KeyOfKv, ValueOfKv,      // keys and values of a head follow each other: [heads * (plain + value), rank]
  Ternary,                 // what training turns: the weight is made of it by ternarise(), in bf16
};

// The shape of the tensor that holds one expert's weight, or a weight that is no expert's; `layer` as for spec::shape_of.
std::vector<int64_t> stored_shape(const spec::ModelSpec& spec, spec::Role role, Layout layout, int layer = -1);

// Whether its scales are the tensor's whose name ends in _scales instead of _blocks.
bool has_planes(Layout layout);

// Bytes made by turning tensors around; they stay where they are.
using OwnedBytes = std::deque<std::vector<std::byte>>;

// The weight in `stored`, which has the stored_shape: a view where rows stay rows, else a copy in `owned`. Copies keep the
// type where its elements stand by themselves and become F32 where they don't.
TensorView cut_weight(const spec::ModelSpec& spec, spec::Role role, Layout layout, const TensorView& stored,
                      OwnedBytes& owned);

// The type that it has then.
spec::ElementType type_when_cut(Layout layout, spec::ElementType stored);

// The way back: the tensor that holds `role` in this layout, and what lies in it beside (for one expert, or none's). Not of
// planes. `weight_of(role)` gives the weights that lie in it.
std::vector<float> join_weights(const spec::ModelSpec& spec, spec::Role role, Layout layout,
                                const std::function<TensorView(spec::Role)>& weight_of);

// Of the weights in one tensor, the first: it is written when that one's turn comes.
bool is_first_in_tensor(Layout layout);

}  // namespace moiety::format
