// Keys and values of one sequence's tokens so far, for every layer.
#pragma once

#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "kernel/attend.h"
#include "spec/model_spec.h"

namespace moiety::model {

// How keys and values of some heads lie in memory, with room for `capacity` positions.
struct KvLayout {
  KvLayout(kernel::KvType type, size_t num_heads, size_t key_dim, size_t value_dim, size_t capacity);

  // Of the first head. 2 MiB if that is not more than all together take, so that pages can be large.
  size_t alignment() const;
  size_t bytes() const { return heads * head_bytes + alignment(); }

  kernel::KvView shape;  // of a head, its addresses counted from 0
  size_t heads, value_start, key_scale_start, value_scale_start, head_bytes;
};

// Keys and values of some heads, as the kernels of attention want them (kernel/attend.h).
class KvHeads {
 public:
  // Memory is taken as positions are written, layout.bytes() at most.
  explicit KvHeads(const KvLayout& layout);

  size_t heads() const { return layout_.heads; }
  size_t key_dim() const { return layout_.shape.key_dim; }
  size_t value_dim() const { return layout_.shape.value_dim; }
  kernel::KvView head(size_t h) const;

  // Rounds a head's key and value to the type. Threads may put positions at the same time unless these differ in their last
  // bit only, of which the even one comes first.
  void put(size_t h, size_t position, std::span<const float> key, std::span<const float> value);
  // Everything that another of the same shape and capacity holds.
  void copy_from(const KvHeads& other);
  // Numbers of a key as they were rounded, from the first.
  void get_key(size_t h, size_t position, std::span<float> key) const;

 private:
  template <kernel::KvType kType>
  void put_as(size_t h, size_t position, std::span<const float> key, std::span<const float> value);

  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  KvLayout layout_;
  size_t start_;  // of head 0 in memory_
  std::unique_ptr<std::byte, Free> memory_;
};

struct KvOptions {
  size_t capacity = 0;  // tokens
  kernel::KvType type = kernel::KvType::F32;
  // So many tokens from the first are the prompt, whose queries latent attention computes the way that is fast for many
  // (latent_attention.h). It is a property of the sequence: how the prompt is cut into chunks changes nothing.
  size_t prompt = 0;
};

// What a layer keeps: keys and values of each key-value head, or, of latent attention, one vector for all heads, whose
// beginning is also its value.
class KvCache {
 public:
  KvCache(const spec::ModelSpec& spec, const KvOptions& options);
  // What such a cache takes once it is full, at most.
  static size_t bytes(const spec::ModelSpec& spec, const KvOptions& options);
  // In f32, without a prompt.
  KvCache(const spec::ModelSpec& spec, size_t capacity) : KvCache(spec, KvOptions{.capacity = capacity}) {}

  const KvOptions& options() const { return options_; }
  size_t capacity() const { return options_.capacity; }
  size_t length() const { return length_; }  // tokens that all layers have seen
  void advance(size_t tokens) {
    assert(length_ + tokens <= capacity());
    length_ += tokens;
  }
  // Forgets all tokens from `length` on.
  void truncate(size_t length) { length_ = length < length_ ? length : length_; }
  // A new prompt: of the tokens so far `most` are kept, or fewer if they must be computed otherwise now that they belong to
  // the prompt. Returns how many.
  size_t start_prompt(size_t most, size_t prompt);

  // Takes over all tokens of a cache of the same model and options.
  void copy_from(const KvCache& other);

  KvHeads& layer(int number) { return layers_[static_cast<size_t>(number)]; }

 private:
  static KvLayout layout_of(const spec::AttentionSpec& attention, const KvOptions& options);

  KvOptions options_;
  bool is_latent_;
  size_t length_ = 0;
  std::vector<KvHeads> layers_;
};

}  // namespace moiety::model
