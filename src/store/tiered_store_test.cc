#include "store/tiered_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "store/replay.h"
#include "support/fixtures.h"
#include "support/resident_bytes.h"

namespace moiety::store {
namespace {

constexpr int kLayers = 3, kExperts = 10;
constexpr size_t kSlotBytes = 8192;

// Experts of two parts each, of odd sizes at odd places, whose bytes say whose they are. In memory the parts follow one
// another.
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
  // Whose copy of low precision, number kExperts + e, has the mark of expert e.
  static char mark(int layer, int expert) { return static_cast<char>(1 + layer * kExperts + expert % kExperts); }
  // Every expert's first part is its copy of low precision, too.
  void add_planes() {
    for (auto& parts_E : parts_LE_) {
      for (int e = 0; e < kExperts; ++e) parts_E.push_back({parts_E[static_cast<size_t>(e)][0]});
    }
  }

  // Takes copies of the parts, one after the other, or leaves them where they were read to.
  void arrive(std::span<const Arrival> arrivals) override {
    if (refuse_ && !arrivals.empty()) fail(ErrorKind::Io, "not what it should be");
    for (const Arrival& arrival : arrivals) {
      const auto& parts = parts_LE_[static_cast<size_t>(arrival.id.layer)][static_cast<size_t>(arrival.id.expert)];
      std::vector<const std::byte*> places = arrival.parts;
      if (places.size() < parts.size()) places.insert(places.begin(), in_slot_.at({arrival.id.layer, arrival.id.expert + kExperts})[0]);
      std::byte* to = arrival.slot;
      for (size_t p = 0; !in_place_ && p < parts.size(); ++p) {
        std::memcpy(to, places[p], parts[p].bytes);
        places[p] = std::exchange(to, to + parts[p].bytes);
      }
      ASSERT_TRUE(in_slot_.emplace(std::pair(arrival.id.layer, arrival.id.expert), places).second);
      slots_[{arrival.id.layer, arrival.id.expert}] = arrival.slot;
      addresses_.insert(arrival.slot);
    }
    most_in_memory_ = std::max(most_in_memory_, in_slot_.size());
  }
  void leave(ExpertId id) override { ASSERT_EQ(in_slot_.erase({id.layer, id.expert}), 1u); }

  static std::vector<Demand> demands(const std::vector<int>& experts) {
    std::vector<Demand> demands;
    for (const int e : experts) demands.push_back({e, 1, 1.0f / static_cast<float>(1 + e)});
    return demands;
  }
  // Of experts of one size, for so many.
  TieredStore::Options options(size_t stay, CachePolicy policy, size_t reads) const {
    TieredStore::Options options{.room = stay * kSlotBytes, .policy = policy, .reads = reads};
    for (const auto& parts_E : parts_LE_) options.bytes_LE.emplace_back(parts_E.size(), kSlotBytes);
    return options;
  }

  // Visits and checks that each expert is handed over once, with its own bytes.
  void visit(ExpertStore& store, int layer, const std::vector<int>& experts) {
    std::vector<int> seen;
    store.visit(layer, demands(experts), 1, [&](std::span<const int> these) {
      for (const int e : these) {
        seen.push_back(e);
        const auto& parts = parts_LE_[static_cast<size_t>(layer)][static_cast<size_t>(e)];
        const auto& places = in_slot_.at({layer, e});
        for (size_t p = 0; p < parts.size(); ++p) {
          ASSERT_TRUE(std::all_of(places[p], places[p] + parts[p].bytes, [&](std::byte b) { return b == static_cast<std::byte>(mark(layer, e)); }));
        }
      }
    });
    std::ranges::sort(seen);
    ASSERT_EQ(seen, experts);
  }
  std::vector<fs::path> files() const { return {path_}; }

  // Every slot's expert still has its bytes.
  void expect_all_whole() {
    for (const auto& [id, places] : in_slot_) {
      EXPECT_EQ(*places[0], static_cast<std::byte>(mark(id.first, id.second)));
      EXPECT_EQ(*places[1], static_cast<std::byte>(mark(id.first, id.second)));
    }
  }

  test::TemporaryFolder folder_;
  fs::path path_ = folder_.path() / "experts";
  std::vector<std::vector<std::vector<FilePart>>> parts_LE_;
  std::map<std::pair<int, int>, std::vector<const std::byte*>> in_slot_;
  std::map<std::pair<int, int>, std::byte*> slots_;
  std::set<std::byte*> addresses_;  // of all slots that were ever used
  size_t most_in_memory_ = 0;
  bool refuse_ = false, in_place_ = false;
};

TEST_F(StoreTest, AnyVisitsWithAnyNumberOfSlotsHandOverEachExpertOnce) {
  Random random(3);
  for (const ReadEngine engine : {ReadEngine::Best, ReadEngine::Threads}) {
    for (const CachePolicy policy : {CachePolicy::Lru, CachePolicy::Blend, CachePolicy::Auto}) {
      for (const size_t slots : {0, 1, 5, 12, kLayers * kExperts}) {
        for (const Predictor predictor : {Predictor::None, Predictor::Previous, Predictor::Path, Predictor::Caller}) {
          in_slot_.clear();
          most_in_memory_ = 0;
          const size_t reads = 1 + random.below(4);
          TieredStore::Options options = this->options(slots, policy, reads);
          options.predictor = predictor;
          options.engine = engine;
          TieredStore store(files(), parts_LE_, *this, options);
          store.measure_read_rate(1e-4);
          uint64_t asked = 0;
          for (int round = 0; round < 90; ++round) {
            std::set<int> experts;
            for (size_t i = random.below(2 * kExperts); i-- > 0;) experts.insert(static_cast<int>(random.below(kExperts)));
            const int layer = random.below(9) == 0 ? static_cast<int>(random.below(kLayers)) : round % kLayers;
            visit(store, layer, {experts.begin(), experts.end()});
            if (HasFatalFailure()) return;
            asked += experts.size();
            if (random.below(2) == 0) store.expect((layer + 1) % kLayers, std::array{1, 7, 3, 2});
          }
          EXPECT_LE(most_in_memory_, slots + reads);
          EXPECT_LE(in_slot_.size(), slots);
          EXPECT_EQ(store.statistics().hits + store.statistics().misses, asked);
          if (slots == kLayers * kExperts) {
            EXPECT_LE(store.statistics().misses, slots);
          }
        }
      }
    }
  }
}

TEST_F(StoreTest, WhatIsExpectedAndAskedForIsReadOnceAndWhatIsNotIsWaste) {
  TieredStore store(files(), parts_LE_, *this, options(0, CachePolicy::Lru, 4));
  store.assume_read_rate(1e15);
  // Always right, with time between visits: experts are read ahead once that is known.
  const auto round = [&](std::vector<int> expected) {
    const StoreStatistics before = store.statistics();
    for (int l = 0; l < kLayers; ++l) {
      visit(store, l, {2, 5});
      if (l + 1 < kLayers) store.expect(l + 1, expected);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return store.statistics() - before;
  };
  for (int i = 0; i < 20; ++i) round({2, 5});
  const StoreStatistics right = round({2, 5});
  EXPECT_EQ(right.expected, 4u);
  EXPECT_EQ(right.expected_right, 4u);
  EXPECT_EQ(right.read_ahead, 4u);
  EXPECT_EQ(right.bytes_wasted, 0u);
  size_t bytes = 0;
  for (const auto& parts_E : parts_LE_) bytes += bytes_as_read(parts_E[2]) + bytes_as_read(parts_E[5]);
  EXPECT_EQ(right.bytes_read, bytes);
  // Always wrong: waste, but not for long.
  const StoreStatistics wrong = round({1, 3});
  EXPECT_EQ(wrong.expected_right, 0u);
  EXPECT_GT(wrong.bytes_wasted, 0u);
  for (int i = 0; i < 200; ++i) round({1, 3});
  EXPECT_EQ(round({1, 3}).read_ahead, 0u);
}

TEST_F(StoreTest, WhatIsExpectedAgainWhileItIsStillComingIsReadOnce) {
  TieredStore store(files(), parts_LE_, *this, options(0, CachePolicy::Lru, 4));
  store.assume_read_rate(1e15);
  Random random(2);
  for (int i = 0; i < 40; ++i) {
    visit(store, i % 2, {2, 5, 7});
    store.expect((i + 1) % 2, std::array{2, 5, 7});
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  // No time between visits: what nobody asked for is still on its way when it is expected again.
  for (int i = 0; i < 3000; ++i) {
    const int layer = i % 2;
    std::vector<int> wanted;
    if (random.below(4) != 0) wanted = {2, 5, 7};
    visit(store, layer, wanted);
    if (HasFatalFailure()) return;
    store.expect(1 - layer, std::array{7, 5, 2});
  }
}

TEST_F(StoreTest, AnExpertWhoseUpperPlaneIsThereIsReadByItsLowerOneAlone) {
  add_planes();
  const auto first_part = [&](int layer, int expert) { return std::span(parts_LE_[static_cast<size_t>(layer)][static_cast<size_t>(expert)]).first(1); };
  for (const Predictor predictor : {Predictor::None, Predictor::Caller}) {
    for (const size_t slots : {0, 2, 9, 30}) {
      in_slot_.clear();
      Random random(13);
      TieredStore::Options options = this->options(slots, CachePolicy::Blend, 3);
      options.predictor = predictor;
      options.has_low = options.in_planes = true;
      TieredStore store(files(), parts_LE_, *this, options);
      store.assume_read_rate(1e15);
      uint64_t bytes = 0, upgrades = 0, spared = 0;
      for (int i = 0; i < 400; ++i) {
        const int layer = i % kLayers;
        std::vector<int> whole, low;
        for (int e = 0; e < kExperts; ++e) {
          if (random.below(3) != 0) continue;
          const bool takes_low = random.below(2) == 0 && !store.has({layer, e});
          (takes_low ? low : whole).push_back(takes_low ? e + kExperts : e);
          if (store.has({layer, takes_low ? e + kExperts : e})) continue;
          const bool is_upgrade = !takes_low && store.has({layer, e + kExperts});
          bytes += bytes_as_read(parts_LE_[static_cast<size_t>(layer)][static_cast<size_t>(takes_low ? e + kExperts : e)]);
          if (!is_upgrade) continue;
          ++upgrades;
          spared += bytes_as_read(first_part(layer, e));
        }
        whole.insert(whole.end(), low.begin(), low.end());
        visit(store, layer, whole);
        if (HasFatalFailure()) return;
        if (predictor == Predictor::Caller) store.expect((layer + 1) % kLayers, std::array{1, 7, 3, 2});
      }
      const StoreStatistics& found = store.statistics();
      if (predictor == Predictor::None) {
        EXPECT_EQ(found.upgrades, upgrades);
        EXPECT_EQ(found.bytes_spared, spared);
        EXPECT_EQ(found.bytes_read, bytes - spared);
      }
      EXPECT_EQ(found.upgrades > 0, slots > 0);
    }
  }
}

TEST_F(StoreTest, ALowerPlaneThatCantBeReadIsTheVisitsErrorAndTheStoreGoesOn) {
  add_planes();
  parts_LE_[1][5][1].offset = uint64_t{1} << 30;  // beyond the end
  TieredStore::Options options = this->options(8, CachePolicy::Lru, 3);
  options.has_low = options.in_planes = true;
  TieredStore store(files(), parts_LE_, *this, options);
  for (int i = 0; i < 5; ++i) {
    visit(store, 1, {2, 5 + kExperts});
    visit(store, 1, {2, 5 + kExperts});
    EXPECT_THROW(store.visit(1, demands({2, 4, 5}), 1, [](std::span<const int>) {}), Error);
    visit(store, 0, {0, 1, 2, 3});
  }
}

TEST_F(StoreTest, AReadThatFailsIsTheVisitsErrorAndTheStoreGoesOn) {
  auto parts_LE = parts_LE_;
  parts_LE[1][5][0].offset = uint64_t{1} << 30;  // beyond the end
  TieredStore store(files(), parts_LE, *this, options(6, CachePolicy::Lru, 3));
  visit(store, 0, {0, 1, 2});
  for (int i = 0; i < 5; ++i) {
    EXPECT_THROW(store.visit(1, demands({2, 4, 5, 6, 7}), 1, [](std::span<const int>) {}), Error);
    visit(store, 0, {0, 1, 2, 3});
    visit(store, 1, {0, 1, 6});
  }
}

TEST_F(StoreTest, AFileThatIsWrittenToWhileItIsInUseIsRefused) {
  TieredStore store(files(), parts_LE_, *this, options(6, CachePolicy::Lru, 3));
  visit(store, 0, {0, 1, 2});
  std::filesystem::last_write_time(path_, std::filesystem::last_write_time(path_) + std::chrono::seconds(1));
  visit(store, 0, {0, 1, 2});  // they are here
  try {
    store.visit(0, demands({2, 3}), 1, [](std::span<const int>) {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("changed while it was in use"), std::string::npos);
  }
}

TEST_F(StoreTest, BytesThatAreNotWhatTheyShouldBeAreTheVisitsError) {
  TieredStore store(files(), parts_LE_, *this, options(4, CachePolicy::Lru, 2));
  refuse_ = true;
  EXPECT_THROW(store.visit(0, demands({0, 1, 2}), 1, [](std::span<const int>) {}), Error);
  refuse_ = false;
  visit(store, 0, {0, 1, 2, 3, 4});
}

TEST_F(StoreTest, AReplayFindsWhatARunFound) {
  Random random(11);
  const std::vector<size_t> experts_L(kLayers, kExperts);
  for (const CachePolicy policy : kAutoChoices) {
    in_slot_.clear();
    TieredStore::Options options = this->options(9, policy, 3);
    options.predictor = Predictor::Path;
    TieredStore store(files(), parts_LE_, *this, options);
    store.measure_read_rate(1e-4);
    std::vector<PastVisit> past;
    const auto room = [](size_t tokens) { return (tokens > 4 ? 5 : 9) * kSlotBytes; };
    for (int i = 0; i < 300; ++i) {
      PastVisit visit{i % kLayers, i % 50 < kLayers ? size_t{40} : 1 + random.below(2), {}};
      for (int e = 0; e < kExperts; ++e) {
        if (random.below(static_cast<uint64_t>(2 + e)) == 0) visit.demands.push_back({e, 1, static_cast<float>(random.below(9))});
      }
      store.use_room(room(visit.tokens));
      store.visit(visit.layer, visit.demands, visit.tokens, [](std::span<const int>) {});
      past.push_back(visit);
    }
    const ReplayResult result = replay(experts_L, past, {{.room = options.room, .policy = policy, .sizes_LE = options.bytes_LE}, room});
    EXPECT_EQ(result.hits, store.statistics().hits) << name(policy);
    EXPECT_EQ(result.misses, store.statistics().misses) << name(policy);
  }
}

TEST_F(StoreTest, RoomIsGivenBackLentToReadsAndTakenAgain) {
  Random random(9);
  for (const bool in_place : {false, true}) {
    in_slot_.clear();
    in_place_ = in_place;
    const size_t slot_bytes = 4 * DirectFile::kAlignment;  // what an expert may take as it is read
    TieredStore::Options options = this->options(0, CachePolicy::Blend, 2);
    options.room = 12 * slot_bytes;
    for (auto& bytes_E : options.bytes_LE) bytes_E.assign(bytes_E.size(), slot_bytes);
    options.in_place = in_place;
    options.more_reads = 3;
    TieredStore store(files(), parts_LE_, *this, options);
    store.assume_read_rate(1e15);
    for (int i = 0; i < 200; ++i) {
      const size_t slots = random.below(13);
      most_in_memory_ = 0;
      store.use_room(slots * slot_bytes, random.below(13 - slots) * slot_bytes);
      EXPECT_LE(in_slot_.size(), slots);
      expect_all_whole();
      for (int l = 0; l < kLayers; ++l) {
        visit(store, l, {0, 3, static_cast<int>(4 + random.below(3)), 7, 8, 9});
        if (HasFatalFailure()) return;
        if (random.below(2) == 0) store.expect(l + 1 < kLayers ? l + 1 : 0, std::array{0, 3, 5});
      }
      EXPECT_LE(in_slot_.size(), slots);
      EXPECT_LE(most_in_memory_, slots + 5);
      expect_all_whole();
    }
    store.use_room(options.room);
    for (int i = 0; i < 10; ++i) visit(store, i % kLayers, {0, 1, 2, 3});
    EXPECT_EQ(in_slot_.size(), 12u);
  }
}

// Experts of many sizes, in slots and reads of any number: all that the store ever wrote to holds no more memory than its room, what is
// lent to reads, and its own reads; a replay with the same sizes finds what it found.
TEST_F(StoreTest, ExpertsOfSeveralSizesNeverTakeMoreThanTheirRoom) {
  constexpr size_t kPage = DirectFile::kAlignment, kMost = 9 * kPage, kReads = 2;
  Random random(23);
  for (const size_t room : {size_t{0}, 4 * kPage, 31 * kPage, 70 * kPage}) {
    for (const bool in_place : {false, true}) {
      in_slot_.clear();
      slots_.clear(), addresses_.clear();
      in_place_ = in_place;
      TieredStore::Options options = this->options(0, CachePolicy::Blend, kReads);
      options.room = room;
      options.in_place = in_place;
      options.more_reads = 3;
      for (auto& bytes_E : options.bytes_LE) {
        for (size_t& bytes : bytes_E) bytes = (4 + random.below(6)) * kPage;
      }
      TieredStore store(files(), parts_LE_, *this, options);
      store.assume_read_rate(1e15);
      const auto room_beside = [&](size_t tokens) { return tokens > 40 ? room / 3 : room; };
      std::vector<PastVisit> past;
      for (int i = 0; i < 300; ++i) {
        PastVisit visit{i % kLayers, i % 30 < kLayers ? size_t{50} : size_t{1}, {}};
        for (int e = 0; e < kExperts; ++e) {
          if (random.below(static_cast<uint64_t>(2 + e)) == 0) visit.demands.push_back({e, 1, 1.0f});
        }
        const size_t now = room_beside(visit.tokens), lent = room - now;
        store.use_room(now, lent);
        const auto expect_within = [&](std::span<const int>) {
          for (const auto& [id, places] : in_slot_) {
            // All of an expert's memory is written, as kernels' layouts do
            std::byte* const slot = slots_.at(id);
            if (!in_place) std::memset(slot + 4 * kPage, 1, options.bytes_LE[static_cast<size_t>(id.first)][static_cast<size_t>(id.second)] - 4 * kPage);
          }
          size_t held = 0;
          for (std::byte* const slot : addresses_) held += test::resident_bytes({slot, kMost});
          EXPECT_LE(held, now + lent + kReads * kMost);
        };
        store.visit(visit.layer, visit.demands, visit.tokens, expect_within);
        expect_within({});
        expect_all_whole();
        past.push_back(visit);
        if (HasFailure()) return;
      }
      const ReplayResult result = replay(std::vector<size_t>(kLayers, kExperts), past,
                                         {{.room = room, .policy = CachePolicy::Blend, .sizes_LE = options.bytes_LE}, room_beside});
      EXPECT_EQ(result.hits, store.statistics().hits);
      EXPECT_EQ(result.misses, store.statistics().misses);
    }
  }
}

TEST_F(StoreTest, WhatTheUserThrowsComesOutAndTheStoreGoesOn) {
  TieredStore store(files(), parts_LE_, *this, options(4, CachePolicy::Lru, 2));
  EXPECT_THROW(store.visit(0, demands({0, 1, 2, 3, 4}), 1, [](std::span<const int>) { throw std::runtime_error("no"); }),
               std::runtime_error);
  visit(store, 0, {0, 1, 2, 3, 4, 5});
}

}  // namespace
}  // namespace moiety::store
