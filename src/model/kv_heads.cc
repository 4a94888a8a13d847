#include "model/kv_heads.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/bytes.h"

namespace moiety::model {
namespace {

using kernel::KvType;

// The scale of numbers kept in signed bytes. What is not finite spoils it, and so is not lost.
float scale_of(std::span<const float> x) {
  float largest = 0, poison = 0;
  for (const float v : x) {
    largest = std::max(largest, std::abs(v));
    poison += v * 0;
  }
  return largest / 127 + poison;
}

template <KvType kType>
struct Numbers;
template <>
struct Numbers<KvType::F32> {
  using Number = float;
  static float rounded(float x, float) { return x; }
};
template <>
struct Numbers<KvType::F16> {
  using Number = uint16_t;
  static uint16_t rounded(float x, float) { return float_to_half(x); }
};
template <>
struct Numbers<KvType::BF16> {
  using Number = uint16_t;
  static uint16_t rounded(float x, float) { return float_to_bf16(x); }
};
template <>
struct Numbers<KvType::Q8> {
  using Number = int8_t;
  static int8_t rounded(float x, float factor) { return static_cast<int8_t>(std::lrintf(x * factor)); }
};

// Writes number d of a row to to[d / kTogether * step + d % kTogether], rounded.
template <KvType kType, size_t kTogether>
void scatter(std::span<const float> row, float scale, typename Numbers<kType>::Number* to, size_t step) {
  constexpr size_t kAtOnce = 64;
  const float factor = scale > 0 ? 1 / scale : 0;
  for (size_t begin = 0; begin < row.size(); begin += kAtOnce) {
    const auto part = row.subspan(begin, std::min(kAtOnce, row.size() - begin));
    typename Numbers<kType>::Number numbers[kAtOnce];
    for (size_t i = 0; i < part.size(); ++i) numbers[i] = Numbers<kType>::rounded(part[i], factor);
    for (size_t i = 0; i < part.size(); ++i) to[(begin + i) / kTogether * step + (begin + i) % kTogether] = numbers[i];
  }
}

}  // namespace

kernel::KvView KvHeads::block(size_t h, size_t block) const {
  const std::byte* bytes = pages_[block]->head(layer_, h);
  kernel::KvView view = shape();
  view.keys = bytes;
  view.values = bytes + layout_->value_start;
  if (view.type == KvType::Q8) {
    view.key_scales = reinterpret_cast<const float*>(bytes + layout_->key_scale_start);
    view.value_scales = reinterpret_cast<const float*>(bytes + layout_->value_scale_start);
  }
  return view;
}

template <KvType kType>
void KvHeads::put_as(size_t h, size_t position, std::span<const float> key, std::span<const float> value) const {
  using Number = typename Numbers<kType>::Number;
  constexpr size_t kPair = kernel::pair_of(kType);
  const auto& page = pages_[position / KvPage::kPositions];
  assert(page.use_count() == 1);
  position %= KvPage::kPositions;
  std::byte* bytes = page->head(layer_, h);
  auto* keys = reinterpret_cast<Number*>(bytes) + shape().key_at(position, 0);
  auto* values = reinterpret_cast<Number*>(bytes + layout_->value_start);
  const size_t key_step = kernel::kKvLanes * kPair;

  if constexpr (kType == KvType::Q8) {
    auto* key_scales = reinterpret_cast<float*>(bytes + layout_->key_scale_start) + position;
    for (size_t d = 0; d < key.size(); d += kernel::kKeysPerScale) {
      const auto part = key.subspan(d, std::min(kernel::kKeysPerScale, key.size() - d));
      const float scale = key_scales[d / kernel::kKeysPerScale * kernel::kAttendBlock] = scale_of(part);
      scatter<kType, kPair>(part, scale, keys + d / kPair * key_step, key_step);
    }
  } else {
    scatter<kType, kPair>(key, 1, keys, key_step);
  }

  float scale = 1;
  if (kType == KvType::Q8) {
    scale = reinterpret_cast<float*>(bytes + layout_->value_scale_start)[position] = scale_of(value);
  }
  for (size_t d = 0; d < value.size(); d += kernel::kValuePanel) {
    const auto part = value.subspan(d, std::min(kernel::kValuePanel, value.size() - d));
    Number* to = values + shape().value_at(position, d);
    scatter<kType, 1>(part, scale, to, kPair);
    if (kPair == 1 || position % 2 == 1) continue;
    // The neighbour to come is multiplied by a weight of 0 until then, and must be a number.
    for (size_t i = 0; i < part.size(); ++i) to[i * kPair + 1] = 0;
  }
}

void KvHeads::put(size_t h, size_t position, std::span<const float> key, std::span<const float> value) const {
  switch (shape().type) {
    case KvType::F32:
      return put_as<KvType::F32>(h, position, key, value);
    case KvType::F16:
      return put_as<KvType::F16>(h, position, key, value);
    case KvType::BF16:
      return put_as<KvType::BF16>(h, position, key, value);
    case KvType::Q8:
      return put_as<KvType::Q8>(h, position, key, value);
  }
}

void KvHeads::get_key(size_t h, size_t position, std::span<float> key) const {
  const kernel::KvView view = block(h, position / KvPage::kPositions);
  position %= KvPage::kPositions;
  for (size_t d = 0; d < key.size(); ++d) {
    key[d] = kernel::kv_number(view.type, view.keys, view.key_at(position, d));
    if (view.key_scales != nullptr) key[d] *= view.key_scales[d / kernel::kKeysPerScale * kernel::kAttendBlock + position];
  }
}

}  // namespace moiety::model
