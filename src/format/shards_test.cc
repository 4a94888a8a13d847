// Models in several files.
#include <gtest/gtest.h>

#include "base/json.h"
#include "format/convert.h"
#include "format/gguf_config.h"
#include "format/model_file.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::format {
namespace {

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    test::write_random_checkpoint(test::small_spec(), whole_);
    fs::create_directories(sharded_);
    fs::copy_file(whole_ / "config.json", sharded_ / "config.json");
    const SafetensorsFile file(whole_ / "model.safetensors");
    std::vector<std::vector<TensorView>> shards(3);
    for (size_t i = 0; i < file.tensors().size(); ++i) {
      shards[i * 7 % 3].push_back(file.tensors()[i]);
      weight_map_[file.tensors()[i].name] = shard_name(i * 7 % 3);
    }
    for (size_t s = 0; s < 3; ++s) write_safetensors(sharded_ / shard_name(s), shards[s]);
    write_index();
  }
  static std::string shard_name(size_t s) { return "model-0000" + std::to_string(3 - s) + "-of-00003.safetensors"; }
  void write_index() {
    test::write_bytes(sharded_ / "model.safetensors.index.json", Json{{"weight_map", weight_map_}}.dump());
  }
  std::string message() const {
    try {
      ModelFile model(sharded_);
    } catch (const Error& error) {
      return error.what();
    }
    return "opened";
  }
  void expect_the_same_as_whole(const fs::path& path) const {
    const ModelFile a(whole_), b(path);
    for (const auto& tensor : a.tensors()) {
      const auto found = std::find_if(b.tensors().begin(), b.tensors().end(), [&](const auto& t) { return t.name == tensor.name; });
      ASSERT_NE(found, b.tensors().end()) << tensor.name;
      EXPECT_TRUE(std::ranges::equal(tensor.bytes, found->bytes)) << tensor.name;
    }
  }
  test::TemporaryFolder temporary_;
  const fs::path whole_ = temporary_.path() / "whole", sharded_ = temporary_.path() / "sharded";
  std::map<std::string, std::string> weight_map_;
};

TEST_F(Shards, TensorsMayLieInAnyOfThem) {
  ASSERT_EQ(message(), "opened");
  expect_the_same_as_whole(sharded_);
  EXPECT_EQ(ModelFile(sharded_).files().size(), 3u);
}

TEST_F(Shards, ATensorThatTheIndexDoesNotNameIsStillFound) {
  weight_map_.erase(weight_map_.find("model.norm.weight") != weight_map_.end() ? "model.norm.weight" : weight_map_.begin()->first);
  write_index();
  EXPECT_EQ(message(), "opened");
}

TEST_F(Shards, ATensorThatOnlyTheIndexNamesIsNotMissed) {
  weight_map_["model.layers.0.rotary_emb.inv_freq"] = shard_name(1);
  write_index();
  EXPECT_EQ(message(), "opened");
}

TEST_F(Shards, AMissingWeightIsNamed) {
  const SafetensorsFile file(sharded_ / shard_name(1));
  std::vector<TensorView> rest(file.tensors().begin() + 1, file.tensors().end());
  const std::string missing = file.tensors()[0].name;
  write_safetensors(sharded_ / "rest", rest);
  fs::rename(sharded_ / "rest", sharded_ / shard_name(1));
  EXPECT_NE(message().find("tensor " + missing + " is missing"), std::string::npos) << message();
}

TEST_F(Shards, AMissingShardIsNamed) {
  fs::remove(sharded_ / shard_name(2));
  EXPECT_NE(message().find(shard_name(2)), std::string::npos) << message();
}

TEST_F(Shards, AnIndexThatLiesIsRefused) {
  for (const char* index : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":"../x"}})",
                            R"({"weight_map":{"a":""}})", R"({"weight_map":{}})"}) {
    test::write_bytes(sharded_ / "model.safetensors.index.json", index);
    EXPECT_NE(message(), "opened") << index;
  }
}

// A GGUF model cut in two, its tensors shuffled.
TEST_F(Shards, ASplitGgufModelOpensByAnyPart) {
  spec::ModelSpec spec = test::small_spec();
  spec.family = "mixtral";
  test::write_random_checkpoint(spec, temporary_.path() / "mixtral");
  const ModelFile model(temporary_.path() / "mixtral");
  const Family& family = *family_named("mixtral");
  std::vector<TensorSource> tensors = gguf_tensors(model, family, {});
  std::reverse(tensors.begin(), tensors.end());
  for (int part = 0; part < 2; ++part) {
    GgufMetadata metadata;
    if (part == 0) add_gguf_config(spec, family, spec::ElementType::F32, "test", metadata);
    metadata.set("split.no", int64_t{part});
    metadata.set("split.count", int64_t{2});
    metadata.set("split.tensors.count", static_cast<int64_t>(tensors.size()));
    const auto middle = tensors.begin() + 5;
    write_gguf(temporary_.path() / ("m-0000" + std::to_string(part + 1) + "-of-00002.gguf"), metadata,
               part == 0 ? std::vector(tensors.begin(), middle) : std::vector(middle, tensors.end()));
  }
  const ModelFile first(temporary_.path() / "m-00001-of-00002.gguf"), second(temporary_.path() / "m-00002-of-00002.gguf");
  EXPECT_EQ(first.files(), second.files());
  EXPECT_EQ(first.files().size(), 2u);
  EXPECT_EQ(second.spec().width, spec.width);
  EXPECT_EQ(second.tensors().size(), tensors.size());
}

}  // namespace
}  // namespace moiety::format
