#include "model/kv_cache.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <set>

#include "base/random.h"

namespace moiety::model {
namespace {

using kernel::KvType;
constexpr size_t kPage = KvPage::kPositions;

// A cache of any shape, and numbers to put into it.
struct Sequence {
  KvCache cache;
  Random random;

  Sequence(const KvPool& pool, const spec::ModelSpec& spec, size_t capacity, uint64_t seed)
      : cache(pool, spec, {capacity, pool.layout().shape.type}), random(seed) {}

  // Writes random keys and values of `tokens` more tokens.
  bool go_on(size_t tokens) {
    if (!cache.reserve(tokens)) return false;
    const kernel::KvView& shape = cache.layer(0).shape();
    std::vector<float> key(shape.key_dim), value(shape.value_dim);
    for (size_t p = cache.length(); p < cache.length() + tokens; ++p) {
      for (int layer = 0; layer < 2; ++layer) {
        for (size_t h = 0; h < cache.layer(layer).heads(); ++h) {
          for (float& x : key) x = static_cast<float>(random.normal());
          for (float& x : value) x = static_cast<float>(random.normal());
          cache.layer(layer).put(h, p, key, value);
        }
      }
      for (float& x : cache.states(p)) x = static_cast<float>(random.normal());
    }
    cache.advance(tokens);
    return true;
  }

  // All that attention and experts may see of the first `tokens` tokens.
  std::vector<float> numbers(size_t tokens) const {
    std::vector<float> all;
    for (int layer = 0; layer < 2; ++layer) {
      const KvHeads kv = cache.layer(layer);
      for (size_t h = 0; h < kv.heads(); ++h) {
        for (size_t p = 0; p < tokens; ++p) {
          std::vector<float> key(kv.shape().key_dim);
          kv.get_key(h, p, key);
          all.insert(all.end(), key.begin(), key.end());
          const kernel::KvView block = kv.block(h, p / kPage);
          for (size_t d = 0; d < block.value_dim; ++d) {
            const float x = kernel::kv_number(block.type, block.values, block.value_at(p % kPage, d));
            all.push_back(block.value_scales != nullptr ? x * block.value_scales[p % kPage] : x);
          }
        }
      }
    }
    for (size_t p = 0; p < tokens; ++p) all.insert(all.end(), cache.states(p).begin(), cache.states(p).end());
    return all;
  }
};

// Two layers; `latent`: of one vector a token; `gru`: of so many numbers.
spec::ModelSpec spec_of(int heads, int dim, bool latent, int gru = 0) {
  spec::ModelSpec spec{.num_layers = 2, .feed_forward = {spec::FeedForward::Dense, spec::FeedForward::Moe}};
  spec.moe = {.router = {.num_experts = 4}, .gru_experts = gru > 0 ? 2 : 0, .gru_hidden = gru};
  spec.attention = {.num_heads = heads, .num_kv_heads = heads, .head_dim = dim};
  if (latent) spec.attention.latent = spec::LatentSpec{.kv_rank = dim, .plain_dim = 8, .rope_dim = 6, .value_dim = 8};
  return spec;
}

struct Case {
  spec::ModelSpec spec;
  KvType type;
};
Case any_case() {
  return {spec_of(*rc::gen::inRange(1, 3), *rc::gen::inRange(1, 150), *rc::gen::arbitrary<bool>(), *rc::gen::inRange(0, 9)),
          *rc::gen::element(KvType::F32, KvType::F16, KvType::BF16, KvType::Q8)};
}

TEST(KvPool, HandsOutItsLimitAndTakesBackWhatNobodyHolds) {
  KvPool pool({KvType::F32, 2, 1, 8, 8}, 3);
  std::set<std::byte*> places;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::shared_ptr<KvPage>> held;
    for (size_t i = 1; i <= 3; ++i) {
      held.push_back(pool.take());
      ASSERT_NE(held.back(), nullptr);
      EXPECT_EQ(pool.in_use(), i);
      places.insert(held.back()->head(0, 0));
    }
    EXPECT_EQ(pool.take(), nullptr);
    const auto also = held[1];
    held.clear();
    EXPECT_EQ(pool.in_use(), 1u);
  }
  EXPECT_EQ(places.size(), 3u);
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(KvPool, APageOutlivesIt) {
  std::shared_ptr<KvPage> page;
  {
    KvPool pool({KvType::F32, 2, 1, 8, 8}, 1);
    page = pool.take();
  }
  std::memset(page->head(1, 0), 7, 64);
  EXPECT_EQ(page->bytes_of(1).size(), 4u);  // a key and a value a layer
}

TEST(KvCache, RunningOutIsAnAnswerAndChangesNothing) {
  const spec::ModelSpec spec = spec_of(1, 8, false);
  KvPool pool(kv_shape(spec, KvType::F32), 3);
  Sequence a(pool, spec, 10 * kPage, 1), b(pool, spec, 10 * kPage, 2);
  ASSERT_TRUE(a.go_on(kPage + 10));
  const auto before = a.numbers(kPage + 10);
  EXPECT_FALSE(a.cache.reserve(2 * kPage));
  EXPECT_EQ(pool.in_use(), 2u);
  EXPECT_EQ(a.cache.length(), kPage + 10);
  EXPECT_TRUE(b.go_on(kPage));
  EXPECT_FALSE(b.cache.reserve(1));
  EXPECT_TRUE(a.cache.reserve(kPage - 10));  // into the page that it has
  EXPECT_FALSE(a.cache.reserve(kPage - 9));

  // A page that is shared is copied, for which there is none left until the other sequence goes.
  Sequence c(pool, spec, 10 * kPage, 3);
  c.cache.adopt(a.cache.pages(), kPage + 5);
  EXPECT_FALSE(c.go_on(1));
  EXPECT_EQ(c.cache.pages_wanted(1), 1u);
  b.cache.truncate(0);
  EXPECT_TRUE(c.go_on(1));
  EXPECT_EQ(pool.in_use(), 3u);
  EXPECT_EQ(a.numbers(kPage + 10), before);
}

// Whole pages are shared until somebody would write into one.
TEST(KvCache, CopiesOnlyAPageThatItWritesAndOthersHold) {
  const spec::ModelSpec spec = spec_of(1, 8, false);
  KvPool pool(kv_shape(spec, KvType::F32));
  Sequence a(pool, spec, 10 * kPage, 1), b(pool, spec, 10 * kPage, 2);
  ASSERT_TRUE(a.go_on(3 * kPage));
  b.cache.adopt(a.cache.pages(), 2 * kPage);
  EXPECT_TRUE(b.go_on(1));
  EXPECT_EQ(pool.in_use(), 4u);
  b.cache.truncate(kPage + 7);
  EXPECT_EQ(pool.in_use(), 3u);
  EXPECT_TRUE(b.go_on(1));
  EXPECT_EQ(pool.in_use(), 4u);
  EXPECT_EQ(b.cache.pages()[0], a.cache.pages()[0]);
  EXPECT_NE(b.cache.pages()[1], a.cache.pages()[1]);

  // Nobody else holds it any more.
  const auto* last = b.cache.pages()[1].get();
  a.cache.truncate(0);
  EXPECT_TRUE(b.go_on(1));
  EXPECT_EQ(b.cache.pages()[1].get(), last);
  EXPECT_EQ(pool.in_use(), 2u);
}

RC_GTEST_PROP(KvCache, WhatIsAdoptedIsTheOthersAndWhatIsWrittenIsOnesOwn, ()) {
  const Case any = any_case();
  KvPool pool(kv_shape(any.spec, any.type));
  Sequence a(pool, any.spec, 3 * kPage, 1), b(pool, any.spec, 3 * kPage, 2);
  const size_t length = *rc::gen::inRange<size_t>(0, 2 * kPage), kept = *rc::gen::inRange<size_t>(0, length + 1);
  a.go_on(length);
  const auto before = a.numbers(length), first = a.numbers(kept);
  b.cache.adopt(a.cache.pages(), kept);
  RC_ASSERT(b.numbers(kept) == first);
  b.go_on(1 + length / 2);
  RC_ASSERT(a.numbers(length) == before);
  RC_ASSERT(b.numbers(kept) == first);
  // The other goes on as well, over what both have
  a.cache.truncate(kept);
  const auto all_of_b = b.numbers(b.cache.length());
  a.go_on(1 + length / 3);
  RC_ASSERT(b.numbers(b.cache.length()) == all_of_b);
  RC_ASSERT(a.numbers(kept) == first);
}

// Into a page whose memory held something else.
RC_GTEST_PROP(KvPage, BytesOfItsFirstPositionsAreAllThatIsNeededToHaveThemAgain, ()) {
  const Case any = any_case();
  KvPool pool(kv_shape(any.spec, any.type));
  Sequence a(pool, any.spec, kPage, 1), b(pool, any.spec, kPage, 2), used(pool, any.spec, kPage, 3);
  const size_t length = *rc::gen::inRange<size_t>(1, kPage + 1);
  a.go_on(length);
  used.go_on(kPage);
  used.cache.truncate(0);

  const auto page = pool.take();
  const auto from = a.cache.pages()[0]->bytes_of(length), to = page->bytes_of(length);
  RC_ASSERT(from.size() == to.size());
  size_t bytes = 0;
  for (size_t i = 0; i < from.size(); ++i) {
    RC_ASSERT(from[i].size() == to[i].size());
    std::ranges::copy(from[i], to[i].begin());
    bytes += to[i].size();
  }
  RC_ASSERT(bytes <= pool.layout().bytes());
  b.cache.adopt(std::span(&page, 1), length);
  RC_ASSERT(b.numbers(length) == a.numbers(length));
}

TEST(KvCache, OfLatentAttentionAdoptsPromptAsPromptAndAnswerAsAnswer) {
  const auto with_prompt = [](bool latent, size_t prompt) { return KvCache(spec_of(1, 8, latent), {100, KvType::F32, prompt}); };
  EXPECT_EQ(with_prompt(true, 10).adoptable(8, 20), 8u);
  EXPECT_EQ(with_prompt(true, 10).adoptable(30, 20), 10u);
  EXPECT_EQ(with_prompt(true, 20).adoptable(30, 10), 10u);
  EXPECT_EQ(with_prompt(true, 20).adoptable(30, 20), 30u);
  EXPECT_EQ(with_prompt(true, 0).adoptable(30, 0), 30u);
  EXPECT_EQ(with_prompt(false, 10).adoptable(30, 20), 30u);
}

TEST(KvCache, SaysWhatItTakes) {
  const spec::ModelSpec spec = spec_of(4, 128, false);
  const size_t page = 2 * 4 * kPage * 256 * sizeof(float), huge = size_t{2} << 20;
  ASSERT_EQ(page, huge);
  for (const auto& [capacity, pages] : {std::pair<size_t, size_t>{1, 1}, {kPage, 1}, {kPage + 1, 2}, {100 * kPage, 100}}) {
    EXPECT_EQ(KvCache::bytes(spec, {capacity}), pages * page);
  }
  EXPECT_EQ(KvCache::bytes(spec_of(1, 8, false), {1}), huge);
}

}  // namespace
}  // namespace moiety::model
