// Keys and values of one sequence's tokens so far, for every layer, and what experts keep of it: a list of pages, of which those that
// are full, or were full once, may be other sequences' too.
//
// What may be adopted. Another sequence's first tokens are this one's if both have the same ids, the same model and type of
// numbers, capacities on the same side of RopeScaling::original_positions (by which long sequences are rotated otherwise), and
// were computed with the same overrides, if any. Of latent attention, a position's numbers also depend on whether it is part of
// the prompt (latent_attention.h): adoptable() says how far two sequences agree. Nothing here can check the rest.
#pragma once

#include <cassert>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_heads.h"
#include "model/kv_page.h"
#include "model/kv_pool.h"
#include "spec/model_spec.h"

namespace moiety::model {

struct KvOptions {
  size_t capacity = 0;  // tokens
  kernel::KvType type = kernel::KvType::F32;
  // So many tokens from the first are the prompt, whose queries latent attention computes the way that is fast for many
  // (latent_attention.h). It is a property of the sequence: how the prompt is cut into chunks changes nothing.
  size_t prompt = 0;
};

class KvCache {
 public:
  // With pages of its own, made as tokens come.
  KvCache(const spec::ModelSpec& spec, const KvOptions& options);
  // In f32, without a prompt.
  KvCache(const spec::ModelSpec& spec, size_t capacity) : KvCache(spec, KvOptions{.capacity = capacity}) {}
  // For what is no model's.
  KvCache(const KvShape& shape, size_t capacity);
  // With pages of `pool`, whose shape must be kv_shape(spec, options.type).
  KvCache(const KvPool& pool, const spec::ModelSpec& spec, const KvOptions& options);

  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

  // What such a cache takes once it is full, at most, if its pages are its own.
  static size_t bytes(const spec::ModelSpec& spec, const KvOptions& options);

  const KvOptions& options() const { return options_; }
  size_t capacity() const { return options_.capacity; }
  size_t length() const { return length_; }  // tokens that all layers have seen

  // Pages that reserve(tokens) would take of the pool.
  size_t pages_wanted(size_t tokens) const;
  // Makes room to write the next `tokens` tokens: takes pages, and where the first of these tokens goes into a page that others
  // hold, copies what is kept of it into one of its own. False, and nothing is changed, if the pool has not enough.
  bool reserve(size_t tokens);
  // After all layers have written so many tokens.
  void advance(size_t tokens) {
    assert(length_ + tokens <= capacity() && length_ + tokens <= pages_.size() * KvPage::kPositions);
    length_ += tokens;
  }

  // Forgets all tokens, and begins with `tokens` whose keys and values these pages hold.
  void adopt(std::span<const std::shared_ptr<KvPage>> pages, size_t tokens);
  // How many of its first `tokens` tokens this sequence may adopt of one that computed them with so many of them as its prompt.
  size_t adoptable(size_t tokens, size_t others_prompt) const;
  // Those that hold its tokens, the last one perhaps not full; whoever takes one has it as it is now.
  std::span<const std::shared_ptr<KvPage>> pages() const { return std::span(pages_).first(KvPage::count_for(length_)); }

  // Forgets all tokens from `length` on.
  void truncate(size_t length);
  // A new prompt: of the tokens so far `most` are kept, or fewer if they must be computed otherwise now that they belong to
  // the prompt. Returns how many.
  size_t start_prompt(size_t most, size_t prompt);
  // Takes over all tokens of a cache of the same model and options, in memory of its own.
  void copy_from(const KvCache& other);

  // Until the next change of the list of pages.
  // What experts keep of a position.
  std::span<float> states(size_t position) const { return pages_[position / KvPage::kPositions]->states(position % KvPage::kPositions); }
  KvHeads layer(int number) const { return {pool_.layout(), static_cast<size_t>(number), pages_}; }

 private:
  bool next_page_is_shared() const;

  KvOptions options_;
  bool is_latent_ = false;
  size_t length_ = 0;
  KvPool pool_;
  std::vector<std::shared_ptr<KvPage>> pages_;  // written only while nobody else holds them; those after length_ nobody has seen
};

}  // namespace moiety::model
