#include "train/sampler.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <set>

namespace moiety::train {
namespace {

constexpr int32_t kEnd = 0;

class SamplerTest : public testing::Test {
 protected:
  SamplerTest() : folder_(fs::temp_directory_path() / fmt::format("moiety-sampler-{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~SamplerTest() override { fs::remove_all(folder_); }

  // Documents of the given lengths; every token of the shard but the ends is another number.
  const Shard& shard(const std::string& name, std::vector<int> lengths, uint64_t fingerprint = 7) {
    ShardWriter writer(folder_ / name, {fingerprint, 100000});
    int32_t next = 1;
    for (const int length : lengths) {
      std::vector<int32_t> ids;
      for (int i = 0; i < length; ++i) ids.push_back(next++);
      writer.add_document(kEnd, ids, 10);
    }
    writer.commit();
    return *shards_.emplace_back(std::make_unique<Shard>(folder_ / name));
  }

  fs::path folder_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

std::vector<int32_t> counted_tokens(const Batch& batch) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < batch.tokens_T.size(); ++i) {
    if (batch.targets_T[i] >= 0) tokens.push_back(batch.tokens_T[i]);
  }
  return tokens;
}

TEST_F(SamplerTest, AnEpochHasEveryTokenExactlyOnce) {
  const Shard& text = shard("a", {5, 1, 30, 12, 3});
  DomainStream stream("a", text, 8, 1);
  std::multiset<int32_t> seen;
  for (size_t i = 0; i < stream.windows_per_epoch(); ++i) {
    Batch batch;
    stream.take(batch);
    EXPECT_EQ(batch.num_tokens(), 8);
    for (const int32_t token : counted_tokens(batch)) seen.insert(token);
  }
  EXPECT_EQ(seen.count(kEnd), 5u);
  for (int32_t token = 1; token <= 51; ++token) EXPECT_EQ(seen.count(token), 1u) << token;
}

TEST_F(SamplerTest, ATargetIsTheNextTokenOfTheDocumentAndTheEndAfterTheLast) {
  const Shard& text = shard("a", {2, 3});
  const DomainStream stream("a", text, 7, std::nullopt);
  Batch batch;
  stream.add_window(0, batch);
  EXPECT_EQ(batch.tokens_T, (std::vector<int32_t>{kEnd, 1, 2, kEnd, 3, 4, 5}));
  EXPECT_EQ(batch.targets_T, (std::vector<int32_t>{1, 2, kEnd, 3, 4, 5, kEnd}));
}

TEST_F(SamplerTest, SegmentsEndWithTheirDocument) {
  const Shard& text = shard("a", {2, 9, 1});
  const DomainStream stream("a", text, 8, std::nullopt);
  Batch batch;
  stream.add_window(0, batch);
  stream.add_window(1, batch);
  std::vector<std::pair<int, int>> segments;
  for (const Segment& s : batch.segments) segments.emplace_back(s.begin, s.length);
  // 3 tokens, 5 of the 10 of the next; its other 5, then 2, then one to fill the row.
  EXPECT_EQ(segments, (std::vector<std::pair<int, int>>{{0, 3}, {3, 5}, {8, 5}, {13, 2}, {15, 1}}));
  EXPECT_EQ(batch.targets_T.back(), -1);
}

TEST_F(SamplerTest, EpochsDifferAndSeedsDiffer) {
  const Shard& text = shard("a", std::vector<int>(40, 15));
  const auto epoch = [&](uint64_t seed, uint64_t number) {
    DomainStream stream("a", text, 16, seed, {.epoch = number});
    Batch batch;
    for (size_t i = 0; i < stream.windows_per_epoch(); ++i) stream.take(batch);
    return batch.tokens_T;
  };
  EXPECT_EQ(epoch(1, 0), epoch(1, 0));
  EXPECT_NE(epoch(1, 0), epoch(1, 1));
  EXPECT_NE(epoch(1, 0), epoch(2, 0));
}

TEST_F(SamplerTest, GoesOnInTheMiddleOfAnEpochWithoutRepeatingOrSkipping) {
  const std::vector<Sampler::Domain> domains{{"a", &shard("a", {50, 7, 20, 31}), 1},
                                             {"b", &shard("b", {90, 3}), 3}};
  Sampler whole(domains, 16, 5);
  std::vector<Batch> expected;
  for (int i = 0; i < 40; ++i) expected.push_back(whole.next(3));

  Sampler first(domains, 16, 5);
  for (int i = 0; i < 17; ++i) first.next(3);
  Sampler second(domains, 16, 5);
  second.restore(parse_json(first.state().dump(), "state"), "state");
  for (size_t i = 17; i < 40; ++i) EXPECT_EQ(second.next(3).tokens_T, expected[i].tokens_T) << i;
}

TEST_F(SamplerTest, DomainsComeByWeight) {
  Sampler sampler({{"a", &shard("a", {500}), 1}, {"b", &shard("b", {500}), 3}, {"c", &shard("c", {500}), 0}}, 10, 5);
  sampler.next(400);
  const Json state = sampler.state();
  EXPECT_EQ(state[0]["rows"], 100);
  EXPECT_EQ(state[1]["rows"], 300);
  EXPECT_EQ(state[2]["rows"], 0);
}

TEST_F(SamplerTest, AStateOfAnotherTextIsRefused) {
  const Sampler before({{"a", &shard("a", {50}, 7), 1}}, 10, 5);
  Sampler after({{"a", &shard("changed", {50}, 8), 1}}, 10, 5);
  EXPECT_THROW(after.restore(before.state(), "state.json"), Error);
}

// Bytes of a file turned after it was written.
TEST_F(SamplerTest, ATokenThatIsNoneIsNamedAndPassedOver) {
  ShardWriter writer(folder_ / "narrow", {7, 300});
  for (int document = 0; document < 3; ++document) writer.add_document(kEnd, {{1, 2, 3, 4, 5, 6, 7}}, 10);
  writer.commit();
  std::string bytes = read_file(folder_ / "narrow");
  bytes[2 * 13] = bytes[2 * 13 + 1] = '\xff';  // of the second document of eight tokens the sixth
  write_file(folder_ / "narrow", bytes);

  const Shard damaged(folder_ / "narrow");
  EXPECT_THROW(damaged.check_tokens(), Error);
  EXPECT_EQ(damaged.document_of(13), 1u);
  EXPECT_EQ(damaged.document_of(7), 0u);
  EXPECT_EQ(damaged.byte_of(13), 26u);
  Sampler sampler({{"whole", &shard("whole", {200}), 1}, {"narrow", &damaged, 1}}, 8, 5);
  int found = 0;
  for (int i = 0; i < 3; ++i) {
    const Batch batch = sampler.next(2);
    for (const int32_t token : batch.tokens_T) EXPECT_LT(token, 1000);
    if (!batch.damage) continue;
    ++found;
    EXPECT_EQ(batch.damage->domain, 1);
    EXPECT_EQ(batch.damage->at, 13u);
    EXPECT_EQ(batch.damage->id, 0xffff);
  }
  EXPECT_EQ(found, 1);
}

TEST_F(SamplerTest, SegmentsKnowTheirPlaceInTheShard) {
  const Shard& text = shard("a", {20, 31, 7});
  DomainStream stream("a", text, 16, 3);
  for (size_t i = 0; i < stream.windows_per_epoch(); ++i) {
    Batch batch;
    stream.take(batch);
    for (const Segment& segment : batch.segments) {
      const auto first = static_cast<size_t>(segment.begin);
      if (segment.at < 0) EXPECT_EQ(batch.targets_T[first], -1);
      else EXPECT_EQ(batch.tokens_T[first], text.token(static_cast<uint64_t>(segment.at)));
    }
  }
}

TEST_F(SamplerTest, AShardCutShortIsRefused) {
  shard("a", {50, 20});
  const std::string bytes = read_file(folder_ / "a");
  for (const size_t size : {size_t{0}, size_t{10}, bytes.size() - 1, bytes.size() - 8}) {
    write_file(folder_ / "cut", std::string_view(bytes).substr(0, size));
    EXPECT_THROW(Shard(folder_ / "cut"), Error) << size;
    EXPECT_EQ(shard_fingerprint(folder_ / "cut"), std::nullopt);
  }
  std::string swollen = bytes;
  swollen[0] = swollen[1] = '\xff';  // an id beyond no u16, but
  write_file(folder_ / "b", swollen);
  EXPECT_NO_THROW(Shard(folder_ / "a"));
}

}  // namespace
}  // namespace moiety::train
