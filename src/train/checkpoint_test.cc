#include "train/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "support/rank_threads.h"
#include "support/write_checkpoint.h"
#include "train/metrics.h"

namespace moiety::train {
namespace {

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : folder_(fs::temp_directory_path() / fmt::format("moiety-checkpoint-{}", ::getpid())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~CheckpointTest() override { fs::remove_all(folder_); }

  static spec::ModelSpec small_spec() {
    const TrainConfig config = parse_config("", "c", {"model.width=16", "model.layers=2", "model.experts=3"});
    return model_spec(config, 300, 0);
  }
  void write(int64_t step) {
    test::write_checkpoint({folder_, folder_ / "tokenizer.json"}, spec_, weights_, optimizer_,
                     {.step = step, .steps = 100, .tokens = 7, .domains = Json::array()});
  }
  fs::path at(int64_t step) const { return folder_ / fmt::format("step-{:08}", step); }

  fs::path folder_;
  spec::ModelSpec spec_ = small_spec();
  Weights weights_{spec_};
  Optimizer optimizer_{{}, weights_};
};

TEST_F(CheckpointTest, ReadsBackWhatWasWritten) {
  weights_.initialise(spec_, 1);
  write(5);
  Weights weights(spec_);
  Optimizer optimizer({}, weights);
  const RunState state = read_checkpoint(*newest_checkpoint(folder_), spec_, weights, optimizer);
  EXPECT_EQ(state.step, 5);
  EXPECT_EQ(state.steps, 100);
  EXPECT_TRUE(std::ranges::equal(weights.values(), weights_.values()));
}

TEST_F(CheckpointTest, AnotherFormOfStateIsRefusedUnlessItHoldsTheSame) {
  write(5);
  Optimizer int8({.state = "int8"}, weights_), factored({.state = "factored"}, weights_);
  EXPECT_NO_THROW(read_checkpoint(at(5), spec_, weights_, int8));
  EXPECT_THROW(read_checkpoint(at(5), spec_, weights_, factored), Error);
}

TEST_F(CheckpointTest, OneOfBeforeAStepIsFound) {
  EXPECT_EQ(checkpoint_before(folder_, 10), std::nullopt);
  for (const int64_t step : {5, 9, 20}) write(step);
  EXPECT_EQ(checkpoint_before(folder_, 100), at(20));
  EXPECT_EQ(checkpoint_before(folder_, 20), at(20));
  EXPECT_EQ(checkpoint_before(folder_, 19), at(9));
  EXPECT_EQ(checkpoint_before(folder_, 4), at(5));  // the oldest there is
  EXPECT_EQ(checkpoint_before(folder_, -6), at(5));
  write_file(at(9) / "model.safetensors", "damaged");
  EXPECT_EQ(checkpoint_before(folder_, 19), at(5));
}

TEST_F(CheckpointTest, TheNewestWholeOneIsFound) {
  EXPECT_EQ(newest_checkpoint(folder_), std::nullopt);
  EXPECT_EQ(newest_checkpoint(folder_ / "absent"), std::nullopt);
  write(5);
  write(12);
  EXPECT_EQ(newest_checkpoint(folder_), at(12));
  fs::resize_file(at(12) / "optimizer.safetensors", 100);
  EXPECT_EQ(newest_checkpoint(folder_), at(5));
  const fs::path state = at(5) / "state.json";
  const std::string text = read_file(state);
  for (size_t i = 0; i < text.size(); ++i) {  // whichever byte is another
    std::string bent = text;
    bent[i] ^= 1;
    write_file(state, bent);
    const bool is_found = newest_checkpoint(folder_).has_value();
    EXPECT_TRUE(!is_found || Json::parse(bent) == Json::parse(text)) << bent;
  }
  fs::remove(state);
  EXPECT_EQ(newest_checkpoint(folder_), std::nullopt);
}

TEST_F(CheckpointTest, OldOnesGo) {
  for (const int64_t step : {1, 2, 3}) write(step);
  fs::create_directories(folder_ / ".step-00000004.99.tmp");
  remove_old_checkpoints(folder_, 2);
  EXPECT_FALSE(fs::exists(at(1)));
  EXPECT_TRUE(fs::exists(at(2)) && fs::exists(at(3)));
  EXPECT_FALSE(fs::exists(folder_ / ".step-00000004.99.tmp"));
}

// Of three ranks one could not write its share; then, what belongs to it could not be read; and then all is well again.
TEST_F(CheckpointTest, OneThatCannotBeWrittenIsDroppedAndThoseBeforeItStay) {
  write(5);
  const RunState state{.step = 6, .steps = 100, .tokens = 7, .domains = Json::array()};
  const auto none_is_half_there = [&] {
    return std::ranges::none_of(fs::directory_iterator(folder_), [](const fs::directory_entry& entry) { return entry.path().filename().string().starts_with('.'); });
  };
  test::on_ranks(3, [&](comm::Group& group) {
    Weights weights(spec_);
    Optimizer optimizer({}, weights);
    CheckpointWriter writer({folder_, {}}, 2, spec_, &group);
    writer.begin(weights, optimizer, state);
    writer.let_go();
    while (writer.news().written == 0) std::this_thread::yield();
    EXPECT_EQ(writer.hear({2, 0}), std::nullopt);  // one is not ready
    EXPECT_EQ(writer.hear({3, 1}).has_value(), group.is_first());
    EXPECT_NO_THROW(writer.finish());  // it has been said
  });
  EXPECT_EQ(newest_checkpoint(folder_), at(5));
  EXPECT_TRUE(none_is_half_there());

  fs::create_directories(folder_ / "tokenizer.json");  // which can't be read
  test::on_ranks(2, [&](comm::Group& group) {
    Weights weights(spec_);
    Optimizer optimizer({}, weights);
    CheckpointWriter writer({folder_, folder_ / "tokenizer.json"}, 2, spec_, &group);
    writer.begin(weights, optimizer, state);
    EXPECT_THROW(writer.finish(), Error);  // on both
    EXPECT_TRUE(none_is_half_there());
    EXPECT_EQ(newest_checkpoint(folder_), at(5));
    std::array all_are_here{0.0};
    group.sum(all_are_here);
    if (group.is_first()) fs::remove(folder_ / "tokenizer.json");
    group.sum(all_are_here);
    writer.begin(weights, optimizer, state);
    EXPECT_NO_THROW(writer.finish());
  });
  EXPECT_EQ(newest_checkpoint(folder_), at(6));
}

TEST_F(CheckpointTest, AnotherModelsCheckpointIsRefused) {
  write(5);
  spec::ModelSpec other = spec_;
  other.moe.router.experts_per_token = 1;
  EXPECT_THROW(read_checkpoint(at(5), other, weights_, optimizer_), Error);
}

TEST_F(CheckpointTest, WeightsOfAnotherShapeAreRefused) {
  std::vector<format::TensorView> views;
  for (const TensorPart& tensor : weights_.tensors()) views.push_back(tensor.here.parts[0]);
  Weights weights(spec_);
  EXPECT_NO_THROW(weights.read(views, "f", weights.values()));
  std::vector<format::TensorView> fewer(views.begin() + 1, views.end());
  EXPECT_THROW(weights.read(fewer, "f", weights.values()), Error);
  std::vector<format::TensorView> turned = views;
  std::swap(turned[0].shape[0], turned[0].shape[1]);
  EXPECT_THROW(weights.read(turned, "f", weights.values()), Error);
}

TEST_F(CheckpointTest, MetricsKeepEachStepOnce) {
  const fs::path path = folder_ / "metrics.jsonl";
  write_file(path, "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"validation\":[]}\n{\"step\":3}\n{\"step\":4,\"lo");
  Metrics(path, 2).add({{"step", 3}, {"validation", "again"}});
  EXPECT_EQ(read_file(path), "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"validation\":[]}\n{\"step\":3,\"validation\":\"again\"}\n");
}

}  // namespace
}  // namespace moiety::train
