#include "model/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "base/bytes.h"

namespace moiety::model {
namespace {

using kernel::KvType;

// Memory of whole pages at the least start on one of 2 MiB, so that they can be large.
constexpr size_t kLargePage = size_t{2} << 20;

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

KvLayout::KvLayout(KvType type, size_t num_heads, size_t key_dim, size_t value_dim, size_t capacity)
    : shape{.type = type, .key_dim = key_dim, .value_dim = value_dim}, heads(num_heads) {
  using kernel::round_up;
  const size_t positions = round_up(capacity, kernel::kAttendBlock), bytes = kernel::bytes_of(type);
  const size_t scales = type == KvType::Q8 ? (key_dim + kernel::kKeysPerScale - 1) / kernel::kKeysPerScale : 0;
  shape.scale_stride = positions;
  value_start = round_up(positions * shape.padded_key_dim() * bytes, 64);
  key_scale_start = value_start + round_up(positions * shape.padded_value_dim() * bytes, 64);
  value_scale_start = key_scale_start + scales * positions * sizeof(float);
  head_bytes = value_scale_start + (scales > 0 ? positions * sizeof(float) : 0);
}

size_t KvLayout::alignment() const { return heads * head_bytes >= kLargePage ? kLargePage : 64; }

KvHeads::KvHeads(const KvLayout& layout) : layout_(layout) {
  const size_t alignment = layout.alignment();
  memory_.reset(static_cast<std::byte*>(std::calloc(layout.bytes(), 1)));
  if (!memory_) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(memory_.get());
  start_ = kernel::round_up(address, alignment) - address;
  if (alignment == kLargePage) {
    madvise(memory_.get() + start_, layout.heads * layout.head_bytes / kLargePage * kLargePage, MADV_HUGEPAGE);
  }
}

kernel::KvView KvHeads::head(size_t h) const {
  const std::byte* bytes = memory_.get() + start_ + h * layout_.head_bytes;
  kernel::KvView view = layout_.shape;
  view.keys = bytes;
  view.values = bytes + layout_.value_start;
  if (view.type == KvType::Q8) {
    view.key_scales = reinterpret_cast<const float*>(bytes + layout_.key_scale_start);
    view.value_scales = reinterpret_cast<const float*>(bytes + layout_.value_scale_start);
  }
  return view;
}

template <KvType kType>
void KvHeads::put_as(size_t h, size_t position, std::span<const float> key, std::span<const float> value) {
  using Number = typename Numbers<kType>::Number;
  constexpr size_t kPair = kernel::pair_of(kType);
  std::byte* bytes = memory_.get() + start_ + h * layout_.head_bytes;
  auto* keys = reinterpret_cast<Number*>(bytes) + layout_.shape.key_at(position, 0);
  auto* values = reinterpret_cast<Number*>(bytes + layout_.value_start);
  const size_t key_step = kernel::kKvLanes * kPair;

  if constexpr (kType == KvType::Q8) {
    auto* key_scales = reinterpret_cast<float*>(bytes + layout_.key_scale_start) + position;
    for (size_t d = 0; d < key.size(); d += kernel::kKeysPerScale) {
      const auto part = key.subspan(d, std::min(kernel::kKeysPerScale, key.size() - d));
      const float scale = key_scales[d / kernel::kKeysPerScale * layout_.shape.scale_stride] = scale_of(part);
      scatter<kType, kPair>(part, scale, keys + d / kPair * key_step, key_step);
    }
  } else {
    scatter<kType, kPair>(key, 1, keys, key_step);
  }

  float scale = 1;
  if (kType == KvType::Q8) {
    scale = reinterpret_cast<float*>(bytes + layout_.value_scale_start)[position] = scale_of(value);
  }
  for (size_t d = 0; d < value.size(); d += kernel::kValuePanel) {
    const auto part = value.subspan(d, std::min(kernel::kValuePanel, value.size() - d));
    Number* to = values + layout_.shape.value_at(position, d);
    scatter<kType, 1>(part, scale, to, kPair);
    if (kPair == 1 || position % 2 == 1) continue;
    // The neighbour to come is multiplied by a weight of 0 until then, and must be a number.
    for (size_t i = 0; i < part.size(); ++i) to[i * kPair + 1] = 0;
  }
}

void KvHeads::put(size_t h, size_t position, std::span<const float> key, std::span<const float> value) {
  switch (layout_.shape.type) {
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

void KvHeads::copy_from(const KvHeads& other) {
  assert(other.layout_.heads == layout_.heads && other.layout_.head_bytes == layout_.head_bytes && other.layout_.shape.type == layout_.shape.type);
  std::memcpy(memory_.get() + start_, other.memory_.get() + other.start_, layout_.heads * layout_.head_bytes);
}

void KvHeads::get_key(size_t h, size_t position, std::span<float> key) const {
  const kernel::KvView view = head(h);
  for (size_t d = 0; d < key.size(); ++d) {
    key[d] = kernel::kv_number(view.type, view.keys, view.key_at(position, d));
    if (view.key_scales != nullptr) key[d] *= view.key_scales[d / kernel::kKeysPerScale * view.scale_stride + position];
  }
}

KvLayout KvCache::layout_of(const spec::AttentionSpec& a, const KvOptions& options) {
  const auto size = [](int n) { return static_cast<size_t>(n); };
  if (!a.latent) return {options.type, size(a.num_kv_heads), size(a.head_dim), size(a.head_dim), options.capacity};
  const size_t rank = size(a.latent->kv_rank);
  return {options.type, 1, rank + size(a.latent->rope_dim), rank, options.capacity};
}

size_t KvCache::bytes(const spec::ModelSpec& spec, const KvOptions& options) {
  return static_cast<size_t>(spec.num_layers) * layout_of(spec.attention, options).bytes();
}

KvCache::KvCache(const spec::ModelSpec& spec, const KvOptions& options)
    : options_(options), is_latent_(spec.attention.latent.has_value()) {
  const KvLayout layout = layout_of(spec.attention, options);
  for (int layer = 0; layer < spec.num_layers; ++layer) layers_.emplace_back(layout);
}

void KvCache::copy_from(const KvCache& other) {
  assert(other.layers_.size() == layers_.size() && other.capacity() == capacity());
  for (size_t layer = 0; layer < layers_.size(); ++layer) layers_[layer].copy_from(other.layers_[layer]);
  options_.prompt = other.options_.prompt;
  length_ = other.length_;
}

size_t KvCache::start_prompt(size_t most, size_t prompt) {
  truncate(is_latent_ ? std::min(most, options_.prompt) : most);
  options_.prompt = prompt;
  return length_;
}

}  // namespace moiety::model
