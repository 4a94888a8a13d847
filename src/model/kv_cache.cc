#include "model/kv_cache.h"

#include <algorithm>
#include <new>
#include <utility>

namespace moiety::model {

KvCache::KvCache(const KvPool& pool, const spec::ModelSpec& spec, const KvOptions& options)
    : options_(options), is_latent_(spec.attention.latent.has_value()), pool_(pool) {
  assert(pool.layout().shape == kv_shape(spec, options.type));
}

KvCache::KvCache(const spec::ModelSpec& spec, const KvOptions& options)
    : KvCache(KvPool(kv_shape(spec, options.type)), spec, options) {}

KvCache::KvCache(const KvShape& shape, size_t capacity) : options_{.capacity = capacity, .type = shape.type}, pool_(shape) {}

size_t KvCache::bytes(const spec::ModelSpec& spec, const KvOptions& options) {
  return KvPool::bytes(kv_shape(spec, options.type), KvPage::count_for(options.capacity));
}

bool KvCache::next_page_is_shared() const {
  return length_ % KvPage::kPositions > 0 && pages_[length_ / KvPage::kPositions].use_count() > 1;
}

size_t KvCache::pages_wanted(size_t tokens) const {
  if (tokens == 0) return 0;
  const size_t wanted = KvPage::count_for(length_ + tokens);
  return (wanted > pages_.size() ? wanted - pages_.size() : 0) + next_page_is_shared();
}

bool KvCache::reserve(size_t tokens) {
  std::vector<std::shared_ptr<KvPage>> taken;
  for (size_t left = pages_wanted(tokens); left > 0; --left) {
    taken.push_back(pool_.take());
    if (taken.back() == nullptr) return false;
  }
  if (tokens > 0 && next_page_is_shared()) {
    taken.back()->copy_from(*pages_[length_ / KvPage::kPositions], length_ % KvPage::kPositions);
    pages_[length_ / KvPage::kPositions] = std::move(taken.back());
    taken.pop_back();
  }
  pages_.insert(pages_.end(), taken.begin(), taken.end());
  return true;
}

void KvCache::adopt(std::span<const std::shared_ptr<KvPage>> pages, size_t tokens) {
  assert(tokens <= capacity() && KvPage::count_for(tokens) <= pages.size());
  const auto first = pages.first(KvPage::count_for(tokens));
  assert(std::ranges::all_of(first, [&](const auto& page) { return page->shape() == pool_.layout().shape; }));
  pages_.assign(first.begin(), first.end());
  length_ = tokens;
}

size_t KvCache::adoptable(size_t tokens, size_t others_prompt) const {
  if (!is_latent_ || others_prompt == options_.prompt) return tokens;
  return std::min({tokens, others_prompt, options_.prompt});
}

void KvCache::truncate(size_t length) {
  length_ = std::min(length, length_);
  pages_.resize(KvPage::count_for(length_));
}

size_t KvCache::start_prompt(size_t most, size_t prompt) {
  const size_t before = std::exchange(options_.prompt, prompt);
  truncate(adoptable(most, before));
  return length_;
}

void KvCache::copy_from(const KvCache& other) {
  assert(other.pool_.layout().shape == pool_.layout().shape && other.length_ <= capacity());
  truncate(0);
  if (!reserve(other.length_)) throw std::bad_alloc();
  for (size_t at = 0; at < other.length_; at += KvPage::kPositions) {
    const size_t page = at / KvPage::kPositions;
    pages_[page]->copy_from(*other.pages_[page], std::min(other.length_ - at, KvPage::kPositions));
  }
  options_.prompt = other.options_.prompt;
  length_ = other.length_;
}

}  // namespace moiety::model
