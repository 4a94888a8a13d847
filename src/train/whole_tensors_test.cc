#include "train/whole_tensors.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <numeric>

#include "base/random.h"
#include "support/rank_threads.h"

namespace moiety::train {
namespace {

// Whatever parts ranks have, some of them the same, as views or made in pieces: the whole is what it was.
TEST(WholeTensors, AreThoseThatTheRanksHaveTheirPartsOf) {
  Random random(3);
  for (int round = 0; round < 12; ++round) {
    const int ranks = 1 + static_cast<int>(random.below(4));
    struct Tensor {
      std::vector<float> numbers;
      std::vector<Part> part_W;
      bool is_made;
    };
    std::vector<Tensor> tensors(3);
    for (Tensor& tensor : tensors) {
      tensor.numbers.resize(&tensor == &tensors[1] ? 0 : 1 + random.below(round == 0 ? 1'000'000 : 300));
      std::iota(tensor.numbers.begin(), tensor.numbers.end(), 0.0f);
      tensor.part_W.resize(static_cast<size_t>(ranks));
      tensor.is_made = random.below(2) == 0;
      const size_t longest = 1 + random.below(1 + tensor.numbers.size() / 2);
      for (size_t at = 0; at < tensor.numbers.size();) {
        const size_t size = std::min(tensor.numbers.size() - at, 1 + static_cast<size_t>(random.below(longest)));
        const size_t owner = random.below(static_cast<uint64_t>(ranks));
        for (size_t rank = 0; rank < tensor.part_W.size(); ++rank) {
          if (rank == owner || random.below(3) == 0) tensor.part_W[rank].add({at, size});
        }
        at += size;
      }
    }
    std::vector<std::vector<float>> found(tensors.size());
    test::on_ranks(ranks, [&](comm::Group& group) {
      std::vector<TensorPart> mine;
      std::vector<std::vector<float>> here(tensors.size());
      for (size_t i = 0; i < tensors.size(); ++i) {
        const Part& part = tensors[i].part_W[static_cast<size_t>(group.rank())];
        here[i].resize(part.size());
        part.take(std::span<const float>(tensors[i].numbers), std::span(here[i]));
        TensorPart& tensor = mine.emplace_back(TensorPart{{}, part});
        tensor.here.name = std::to_string(i);
        tensor.here.shape = {static_cast<int64_t>(tensors[i].numbers.size())};
        if (!tensors[i].is_made) tensor.here.parts.push_back({"", spec::ElementType::F32, {}, std::as_bytes(std::span(here[i]))});
        for (size_t at = 0; tensors[i].is_made && at < here[i].size(); at += 7) {
          tensor.here.made.push_back([at, &numbers = here[i]] {
            return std::vector<float>(numbers.begin() + static_cast<ptrdiff_t>(at), numbers.begin() + static_cast<ptrdiff_t>(std::min(at + 7, numbers.size())));
          });
        }
      }
      const std::vector<format::TensorSource> whole = whole_tensors(mine, &group);
      ASSERT_EQ(whole.size(), group.is_first() ? tensors.size() : 0);
      for (size_t i = 0; i < whole.size(); ++i) {
        EXPECT_EQ(whole[i].shape, mine[i].here.shape);
        for (const auto& make : whole[i].made) {
          const std::vector<float> numbers = make();
          found[i].insert(found[i].end(), numbers.begin(), numbers.end());
        }
      }
    });
    for (size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(found[i], tensors[i].numbers);
  }
}

}  // namespace
}  // namespace moiety::train
