#include "train/slices.h"

#include "base/error.h"

namespace moiety::train {
namespace {

using spec::Role;

// As many of `count` as any other rank has, or one more; each of them is `size` slices.
Stretch share_of(int count, int size, const TensorShare& share) {
  const auto all = static_cast<size_t>(count), rank = static_cast<size_t>(share.rank), ranks = static_cast<size_t>(share.ranks);
  const size_t begin = all * rank / ranks, end = all * (rank + 1) / ranks;
  return {begin * static_cast<size_t>(size), (end - begin) * static_cast<size_t>(size)};
}

}  // namespace

void check_slices(const spec::ModelSpec& spec, const TensorShare& share) {
  if (share.ranks == 1) return;
  const spec::AttentionSpec& a = spec.attention;
  const auto enough = [&](int count, const char* what) {
    require(count == 0 || count >= share.ranks, "ranks.tensor is {}, and there are {} {} to share out", share.ranks, count, what);
  };
  require(!a.experts, "ranks.tensor is {}, and attention experts have no heads of their own to share out", share.ranks);
  require(a.qk_norm != spec::QkNorm::Whole, "ranks.tensor is {}, and a norm of all heads together (qk_norm = \"whole\") needs them in one place",
          share.ranks);
  require(spec.moe.gru_experts == 0, "ranks.tensor is {}, which gives each rank a part of a sequence, and GRU experts want it whole", share.ranks);
  enough(a.num_kv_heads, "key-value heads");
  if (spec.moe_layers() < spec.num_layers) enough(spec.dense_hidden, "hidden units of a dense feed-forward");
  enough(spec.moe.shared_hidden, "hidden units of the shared experts");
}

std::optional<Slices> slices_of(const spec::ModelSpec& spec, Role role, const TensorShare& share) {
  if (share.ranks == 1) return std::nullopt;
  const spec::AttentionSpec& a = spec.attention;
  const Stretch keys = share_of(a.num_kv_heads, a.head_dim, share);
  const Stretch queries = share_of(a.num_kv_heads, a.num_heads / a.num_kv_heads * a.head_dim, share);
  const Stretch dense = share_of(spec.dense_hidden, 1, share), shared = share_of(spec.moe.shared_hidden, 1, share);
  switch (role) {
    case Role::Query:
      return Slices{0, queries};
    case Role::Key:
    case Role::Value:
      return Slices{0, keys};
    case Role::AttentionOutput:
      return Slices{1, queries};
    case Role::DenseGate:
    case Role::DenseUp:
      return Slices{0, dense};
    case Role::DenseDown:
      return Slices{1, dense};
    case Role::SharedGate:
    case Role::SharedUp:
      return Slices{0, shared};
    case Role::SharedDown:
      return Slices{1, shared};
    default:
      return std::nullopt;
  }
}

spec::AttentionSpec heads_here(const spec::AttentionSpec& whole, const TensorShare& share) {
  if (share.ranks == 1) return whole;
  spec::AttentionSpec here = whole;
  here.num_kv_heads = static_cast<int>(share_of(whole.num_kv_heads, 1, share).size);
  here.num_heads = here.num_kv_heads * (whole.num_heads / whole.num_kv_heads);
  return here;
}

}  // namespace moiety::train
