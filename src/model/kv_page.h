// Keys and values of kAttendBlock positions that follow each other, for all layers and heads of a model: what sequences share,
// and what is saved and read again.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernel/attend.h"
#include "spec/model_spec.h"

namespace moiety::model {

// What a page holds of each position. Pages of one shape may stand for one another.
struct KvShape {
  kernel::KvType type = kernel::KvType::F32;
  size_t layers = 0, heads = 0;
  size_t key_dim = 0, value_dim = 0;  // numbers a head
  size_t states = 0;  // numbers beside them that experts of all layers keep (model/expert_states.h), in f32 whatever the type

  bool operator==(const KvShape&) const = default;
};

// Of a layer a key and a value for each key-value head or, of latent attention, one vector for all heads, whose beginning is
// also its value.
KvShape kv_shape(const spec::ModelSpec& spec, kernel::KvType type);

// How a page lies in memory: [layer][head], of each head what kernel::KvView says; then [position][states]. Bytes.
struct KvLayout {
  explicit KvLayout(const KvShape& shape);

  size_t bytes() const;

  KvShape shape;
  kernel::KvView head;  // without addresses
  size_t value_start, key_scale_start, value_scale_start, head_bytes, states_start;
};

class KvPage {
 public:
  static constexpr size_t kPositions = kernel::kAttendBlock;
  // Pages that so many positions take.
  static constexpr size_t count_for(size_t positions) { return (positions + kPositions - 1) / kPositions; }

  // `layout` and layout.bytes() of zeros at `memory` must outlive it.
  KvPage(const KvLayout& layout, std::byte* memory) : layout_(&layout), memory_(memory) {}

  const KvShape& shape() const { return layout_->shape; }
  std::byte* head(size_t layer, size_t h) const { return memory_ + (layer * layout_->shape.heads + h) * layout_->head_bytes; }

  std::span<float> states(size_t position) const;

  // The memory that holds positions [0, positions), and a few numbers of up to 15 positions more that lie among them, which
  // may be anything. Their order and sizes follow from the shape and `positions` alone.
  std::vector<std::span<std::byte>> bytes_of(size_t positions) const;
  // Takes over positions [0, positions) of another page of the same shape.
  void copy_from(const KvPage& other, size_t positions);

 private:
  const KvLayout* layout_;
  std::byte* memory_;
};

}  // namespace moiety::model
