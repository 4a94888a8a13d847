#include "train/share_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "support/rank_threads.h"

namespace moiety::train {
namespace {

// Of one tensor each rank's part, as a view or made in pieces.
struct Spread {
  std::vector<float> numbers;
  std::vector<Part> part_W;
  bool is_made;
};

Spread random_spread(Random& random, int ranks, size_t size) {
  Spread spread{std::vector<float>(size), std::vector<Part>(static_cast<size_t>(ranks)), random.below(2) == 0};
  std::iota(spread.numbers.begin(), spread.numbers.end(), 0.0f);
  const size_t longest = 1 + random.below(1 + size / 2);
  for (size_t at = 0; at < size;) {
    const size_t count = std::min(size - at, 1 + static_cast<size_t>(random.below(longest)));
    const size_t owner = random.below(static_cast<uint64_t>(ranks));
    for (size_t rank = 0; rank < spread.part_W.size(); ++rank) {
      if (rank == owner || random.below(3) == 0) spread.part_W[rank].add({at, count});
    }
    at += count;
  }
  return spread;
}

TensorPart tensor_of(const Spread& spread, const Part& part, const std::vector<float>& here) {
  TensorPart tensor{{}, part};
  tensor.here.shape = {static_cast<int64_t>(spread.numbers.size())};
  if (!spread.is_made) tensor.here.parts.push_back({"", spec::ElementType::F32, {}, std::as_bytes(std::span(here))});
  for (size_t at = 0; spread.is_made && at < here.size(); at += 7) {
    tensor.here.made.push_back([at, &here] {
      return std::vector<float>(here.begin() + static_cast<ptrdiff_t>(at), here.begin() + static_cast<ptrdiff_t>(std::min(at + 7, here.size())));
    });
  }
  return tensor;
}

fs::path file_of_test() { return fs::temp_directory_path() / fmt::format("moiety-share-{}", ::getpid()); }

// Whatever parts ranks have, some of them the same: the file is the tensors one after the other, though what they are made of is changed as soon
// as the writers let go of it.
TEST(ShareWriter, RanksWriteTheWholeEachNumberOnceAndAsItWas) {
  Random random(3);
  for (int round = 0; round < 12; ++round) {
    const int ranks = 1 + static_cast<int>(random.below(4));
    std::vector<Spread> spreads;
    for (const size_t most : {300, 0, round < 2 ? 3'000'000 : 300}) spreads.push_back(random_spread(random, ranks, most == 0 ? 0 : 1 + random.below(most)));
    const fs::path path = file_of_test();
    fs::remove(path);
    std::vector<float> times(10'000'000 / sizeof(float), 0.0f);  // each number was written so often
    std::mutex mutex;
    test::on_ranks(ranks, [&](comm::Group& group) {
      std::vector<TensorPart> mine;
      std::vector<std::vector<float>> here_N(spreads.size());
      for (size_t n = 0; n < spreads.size(); ++n) {
        const Part& part = spreads[n].part_W[static_cast<size_t>(group.rank())];
        here_N[n].resize(part.size());
        part.take(std::span<const float>(spreads[n].numbers), std::span(here_N[n]));
        mine.push_back(tensor_of(spreads[n], part, here_N[n]));
      }
      const std::vector<Part> share_N = share_of(mine, &group);
      WrittenFile file{path, group.is_first() ? "head" : ""};
      size_t begin = 4;
      for (size_t n = 0; n < mine.size(); ++n) {
        file.tensors.push_back({mine[n], share_N[n], begin});
        const std::lock_guard lock(mutex);
        for (const Stretch& stretch : share_N[n].stretches()) {
          for (size_t i = stretch.begin; i < stretch.end(); ++i) ++times[begin / sizeof(float) + i];
        }
        begin += spreads[n].numbers.size() * sizeof(float);
      }
      ShareWriter writer({file}, random.below(2) == 0);
      writer.let_go();
      for (std::vector<float>& here : here_N) std::ranges::fill(here, -1.0f);
      writer.wait();
      EXPECT_TRUE(writer.has_ended());
      EXPECT_EQ(writer.failure(), std::nullopt);
    });
    std::string wanted = "head";
    size_t count = 0;
    for (const Spread& spread : spreads) {
      wanted.append(reinterpret_cast<const char*>(spread.numbers.data()), spread.numbers.size() * sizeof(float));
      count += spread.numbers.size();
    }
    EXPECT_TRUE(read_file(path) == wanted);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(times[1 + i], 1) << i;
    fs::remove(path);
  }
}

TEST(ShareWriter, AFullDiskIsSaidAndLetsGo) {
  const std::vector<float> numbers(1 << 20);
  const format::TensorView view{"", spec::ElementType::F32, {1 << 20}, std::as_bytes(std::span(numbers))};
  const Part all({{0, numbers.size()}});
  for (const bool may_copy : {false, true}) {
    ShareWriter writer({{"/dev/full", "head", {{{view, all}, all, 4}}}}, may_copy);
    writer.let_go();
    writer.wait();
    ASSERT_TRUE(writer.failure().has_value());
    EXPECT_NE(writer.failure()->find("No space left"), std::string::npos);
  }
}

TEST(ShareWriter, OneThatIsGivenUpEndsSoon) {
  constexpr int kPieces = 4000;
  std::atomic<int> made = 0;
  TensorPart tensor{{}, Part({{0, kPieces}})};
  tensor.here.shape = {kPieces};
  for (int i = 0; i < kPieces; ++i) {
    tensor.here.made.push_back([&made] {
      ++made;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return std::vector<float>(1);
    });
  }
  WrittenFile file{file_of_test(), ""};
  for (size_t i = 0; i < kPieces; i += 2) file.tensors.push_back({tensor, Part({{i, 1}}), 0});
  { const ShareWriter writer({file}, true); }
  EXPECT_LT(made, kPieces);
  fs::remove(file_of_test());
}

}  // namespace
}  // namespace moiety::train
