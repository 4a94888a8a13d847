// Keys and values of one layer of a sequence, as attention reads and writes them: a look through the list of its pages.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "kernel/attend.h"
#include "model/kv_page.h"

namespace moiety::model {

class KvHeads {
 public:
  KvHeads() = default;
  // Looks at `layout` and `pages`.
  KvHeads(const KvLayout& layout, size_t layer, std::span<const std::shared_ptr<KvPage>> pages)
      : layout_(&layout), layer_(layer), pages_(pages) {}

  size_t heads() const { return layout_->shape.heads; }
  // Of every head, without addresses.
  const kernel::KvView& shape() const { return layout_->head; }
  // Positions [block * kAttendBlock, …).
  kernel::KvView block(size_t h, size_t block) const;

  // Rounds a head's key and value to the type. Threads may put positions at the same time unless these differ in their last
  // bit only, of which the even one comes first.
  void put(size_t h, size_t position, std::span<const float> key, std::span<const float> value) const;
  // Numbers of a key as they were rounded, from the first.
  void get_key(size_t h, size_t position, std::span<float> key) const;

 private:
  template <kernel::KvType kType>
  void put_as(size_t h, size_t position, std::span<const float> key, std::span<const float> value) const;

  const KvLayout* layout_ = nullptr;
  size_t layer_ = 0;
  std::span<const std::shared_ptr<KvPage>> pages_;
};

}  // namespace moiety::model
