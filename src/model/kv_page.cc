#include "model/kv_page.h"

#include <cassert>
#include <cstring>

#include "spec/expert_kind.h"

namespace moiety::model {

using kernel::KvType;
using kernel::round_up;

KvShape kv_shape(const spec::ModelSpec& spec, KvType type) {
  const auto size = [](int n) { return static_cast<size_t>(n); };
  const spec::AttentionSpec& a = spec.attention;
  const size_t states = static_cast<size_t>(spec::state_before(spec, spec.num_layers));
  if (!a.latent) return {type, size(spec.attention_layers()), size(a.num_kv_heads), size(a.head_dim), size(a.head_dim), states};
  const size_t rank = size(a.latent->kv_rank);
  return {type, size(spec.attention_layers()), 1, rank + size(a.latent->rope_dim), rank, states};
}

KvLayout::KvLayout(const KvShape& s) : shape(s), head{.type = s.type, .key_dim = s.key_dim, .value_dim = s.value_dim} {
  const size_t bytes = kernel::bytes_of(s.type), positions = KvPage::kPositions;
  const size_t scales = s.type == KvType::Q8 ? head.key_scales_a_position() : 0;
  value_start = round_up(positions * head.padded_key_dim() * bytes, 64);
  key_scale_start = value_start + round_up(positions * head.padded_value_dim() * bytes, 64);
  value_scale_start = key_scale_start + scales * positions * sizeof(float);
  head_bytes = value_scale_start + (scales > 0 ? positions * sizeof(float) : 0);
  states_start = round_up(s.layers * s.heads * head_bytes, 64);
}

size_t KvLayout::bytes() const {
  return shape.states == 0 ? shape.layers * shape.heads * head_bytes : states_start + KvPage::kPositions * shape.states * sizeof(float);
}

std::span<float> KvPage::states(size_t position) const {
  const size_t count = layout_->shape.states;
  return {reinterpret_cast<float*>(memory_ + layout_->states_start) + position * count, count};
}

std::vector<std::span<std::byte>> KvPage::bytes_of(size_t positions) const {
  assert(positions <= kPositions);
  const kernel::KvView& view = layout_->head;
  const size_t bytes = kernel::bytes_of(view.type), groups = round_up(positions, kernel::kKvLanes);
  const size_t pairs = round_up(positions, kernel::pair_of(view.type));
  std::vector<std::span<std::byte>> parts;
  for (size_t h = 0; h < layout_->shape.layers * layout_->shape.heads; ++h) {
    std::byte* const at = head(0, h);
    parts.emplace_back(at, groups * view.padded_key_dim() * bytes);
    for (size_t d = 0; d < view.padded_value_dim(); d += kernel::kValuePanel) {
      parts.emplace_back(at + layout_->value_start + view.value_at(0, d) * bytes, pairs * view.panel_width(d) * bytes);
    }
    if (view.type != KvType::Q8) continue;
    for (size_t s = 0; s < view.key_scales_a_position(); ++s) {
      parts.emplace_back(at + layout_->key_scale_start + s * kPositions * sizeof(float), positions * sizeof(float));
    }
    parts.emplace_back(at + layout_->value_scale_start, positions * sizeof(float));
  }
  if (layout_->shape.states > 0) parts.emplace_back(memory_ + layout_->states_start, positions * layout_->shape.states * sizeof(float));
  return parts;
}

void KvPage::copy_from(const KvPage& other, size_t positions) {
  assert(other.shape() == shape());
  const auto from = other.bytes_of(positions), to = bytes_of(positions);
  for (size_t i = 0; i < to.size(); ++i) std::memcpy(to[i].data(), from[i].data(), to[i].size());
}

}  // namespace moiety::model
