#include "store/expert_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "support/fixtures.h"

namespace moiety::store {
namespace {

constexpr int kLayers = 3, kExperts = 10;
constexpr size_t kSlotBytes = 8192;

// Experts of two parts each, of odd sizes at odd places, whose bytes say whose they are. Slots hold the parts one after the
// other.
class StoreTest : public testing::Test, protected ExpertHost {
 protected:
  StoreTest() {
    std::string bytes(777, 'x');
    for (int l = 0; l < kLayers; ++l) {
      auto& parts_E = parts_LE_.emplace_back();
      for (int e = 0; e < kExperts; ++e) {
        auto& parts = parts_E.emplace_back();
        for (size_t p = 0; p < 2; ++p) {
          const size_t size = 1000 + 331 * p + 17 * static_cast<size_t>(e);
          parts.push_back({0, bytes.size(), size});
          bytes.append(size, mark(l, e));
          bytes.append(61, 'x');
        }
      }
    }
    test::write_bytes(path_, bytes);
  }
  static char mark(int layer, int expert) { return static_cast<char>(1 + layer * kExperts + expert); }

  void arrive(std::span<const Arrival> arrivals) override {
    for (const Arrival& arrival : arrivals) {
      const auto& parts = parts_LE_[static_cast<size_t>(arrival.id.layer)][static_cast<size_t>(arrival.id.expert)];
      std::byte* to = arrival.slot;
      for (size_t p = 0; p < parts.size(); ++p) {
        std::memcpy(to, arrival.parts[p], parts[p].bytes);
        to += parts[p].bytes;
      }
      ASSERT_TRUE(in_slot_.emplace(std::pair(arrival.id.layer, arrival.id.expert), arrival.slot).second);
    }
    most_in_slots_ = std::max(most_in_slots_, in_slot_.size());
  }
  void leave(ExpertId id) override { ASSERT_EQ(in_slot_.erase({id.layer, id.expert}), 1u); }

  // Visits and checks that each expert is handed over once, with its own bytes.
  void visit(ExpertStore& store, int layer, const std::vector<int>& experts) {
    std::vector<int> seen;
    store.visit(layer, experts, [&](std::span<const int> these) {
      for (const int e : these) {
        seen.push_back(e);
        const auto& parts = parts_LE_[static_cast<size_t>(layer)][static_cast<size_t>(e)];
        const size_t size = parts[0].bytes + parts[1].bytes;
        const std::byte* slot = in_slot_.at({layer, e});
        ASSERT_TRUE(std::all_of(slot, slot + size, [&](std::byte b) { return b == static_cast<std::byte>(mark(layer, e)); }));
      }
    });
    std::ranges::sort(seen);
    ASSERT_EQ(seen, experts);
  }
  std::vector<fs::path> files() const { return {path_}; }

  test::TemporaryFolder folder_;
  fs::path path_ = folder_.path() / "experts";
  std::vector<std::vector<std::vector<FilePart>>> parts_LE_;
  std::map<std::pair<int, int>, std::byte*> in_slot_;
  size_t most_in_slots_ = 0;
};

TEST_F(StoreTest, AnyVisitsWithAnyNumberOfSlotsHandOverEachExpertOnce) {
  Random random(3);
  for (const ReadEngine engine : {ReadEngine::Best, ReadEngine::Threads}) {
    for (const CachePolicy policy : {CachePolicy::Lru, CachePolicy::Lfu}) {
      for (const size_t slots : {1, 2, 5, 12, kLayers * kExperts}) {
        in_slot_.clear();
        most_in_slots_ = 0;
        TieredStore store(files(), parts_LE_, *this, {slots, kSlotBytes, policy, std::min<size_t>(slots, 3), engine});
        uint64_t asked = 0;
        for (int round = 0; round < 150; ++round) {
          std::set<int> experts;
          for (size_t i = random.below(2 * kExperts); i-- > 0;) experts.insert(static_cast<int>(random.below(kExperts)));
          visit(store, static_cast<int>(random.below(kLayers)), {experts.begin(), experts.end()});
          if (HasFatalFailure()) return;
          asked += experts.size();
        }
        EXPECT_LE(most_in_slots_, slots);
        EXPECT_EQ(store.statistics().hits + store.statistics().misses, asked);
        if (slots == kLayers * kExperts) EXPECT_LE(store.statistics().misses, slots);
      }
    }
  }
}

TEST_F(StoreTest, TheExpertThatGoesIsThePolicys) {
  // 0 is used often, 1 once and last: LRU lets 0 go, LFU 1.
  for (const auto& [policy, stays] : {std::pair(CachePolicy::Lru, 1), {CachePolicy::Lfu, 0}}) {
    in_slot_.clear();
    TieredStore store(files(), parts_LE_, *this, {2, kSlotBytes, policy, 1});
    for (int i = 0; i < 5; ++i) visit(store, 0, {0});
    visit(store, 0, {1});
    visit(store, 0, {2});
    EXPECT_TRUE(in_slot_.contains({0, stays}));
    EXPECT_FALSE(in_slot_.contains({0, 1 - stays}));
  }
}

TEST_F(StoreTest, StepsThatVisitMoreThanThereIsRoomForFindMoreThanWithLru) {
  // Every step visits the same fifteen experts, layer after layer; there is room for twelve.
  const auto hits = [&](CachePolicy policy) {
    in_slot_.clear();
    TieredStore store(files(), parts_LE_, *this, {12, kSlotBytes, policy, 2});
    for (int step = 0; step < 20; ++step) {
      for (int l = 0; l < kLayers; ++l) visit(store, l, {0, 2, 4, 6, 8});
    }
    return store.statistics().hits;
  };
  constexpr uint64_t kVisits = 20 * kLayers * 5;
  EXPECT_LT(hits(CachePolicy::Lru), kVisits / 2);
  EXPECT_GT(hits(CachePolicy::Lfu), kVisits / 2);
}

TEST_F(StoreTest, AReadThatFailsIsTheVisitsErrorAndTheStoreGoesOn) {
  TieredStore store(files(), parts_LE_, *this, {6, kSlotBytes, CachePolicy::Lru, 3});
  visit(store, 0, {0, 1, 2});
  ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(parts_LE_[1][5][0].offset)), 0);
  EXPECT_THROW(store.visit(1, std::vector{2, 4, 5, 6, 7}, [](std::span<const int>) {}), Error);
  visit(store, 0, {0, 1, 2, 3});
  visit(store, 1, {0, 1});
}

TEST_F(StoreTest, WhatTheUserThrowsComesOutAndTheStoreGoesOn) {
  TieredStore store(files(), parts_LE_, *this, {4, kSlotBytes, CachePolicy::Lru, 2});
  EXPECT_THROW(store.visit(0, std::vector{0, 1, 2, 3, 4}, [](std::span<const int>) { throw std::runtime_error("no"); }),
               std::runtime_error);
  visit(store, 0, {0, 1, 2, 3, 4, 5});
}

}  // namespace
}  // namespace moiety::store
