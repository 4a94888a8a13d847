#include "format/gguf.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "format/elements.h"
#include "support/fixtures.h"

namespace moiety::format {
namespace {

// Builds a file byte by byte, without our writer.
class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(const std::string& value) {
    put<uint64_t>(value.size());
    text_ += value;
    return *this;
  }
  Bytes& head(uint64_t tensors, uint64_t values, uint32_t version = 3) {
    return put<uint32_t>(0x46554747).put(version).put(tensors).put(values);
  }
  Bytes& tensor(const std::string& name, std::vector<uint64_t> shape, uint32_t type, uint64_t offset) {
    text(name).put(static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) put(size);
    return put(type).put(offset);
  }
  Bytes& data(size_t bytes) {
    text_.resize((text_.size() + 31) / 32 * 32 + bytes);
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

class Gguf : public testing::Test {
 protected:
  std::string message_of(const std::string& bytes) {
    test::write_bytes(path_, bytes);
    try {
      GgufFile file(path_);
    } catch (const Error& error) {
      const std::string text = error.what();
      return text.starts_with(path_.string() + ": ") ? text.substr(path_.string().size() + 2) : text;
    }
    return "opened";
  }
  test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path(), path_ = folder_ / "x.gguf";
};

TEST_F(Gguf, EveryKindOfValueIsRead) {
  Bytes b;
  b.head(1, 9);
  b.text("u8").put<uint32_t>(0).put<uint8_t>(7);
  b.text("i16").put<uint32_t>(3).put<int16_t>(-7);
  b.text("u32").put<uint32_t>(4).put<uint32_t>(4000000000u);
  b.text("f32").put<uint32_t>(6).put<float>(1.5f);
  b.text("f64").put<uint32_t>(12).put<double>(2.5);
  b.text("bool").put<uint32_t>(7).put<uint8_t>(1);
  b.text("text").put<uint32_t>(8).text("hello");
  b.text("texts").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(2).text("a").text("b");
  b.text("ints").put<uint32_t>(9).put<uint32_t>(5).put<uint64_t>(2).put<int32_t>(1).put<int32_t>(-1);
  b.tensor("w", {3, 2}, 0, 0).data(24);
  ASSERT_EQ(message_of(b.str()), "opened");
  const GgufFile file(path_);
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.integer("u8"), 7);
  EXPECT_EQ(m.integer("i16"), -7);
  EXPECT_EQ(m.integer("u32"), 4000000000);
  EXPECT_EQ(m.number("f32"), 1.5);
  EXPECT_EQ(m.number("f64"), 2.5);
  EXPECT_EQ(m.number("u8"), 7.0);
  EXPECT_TRUE(m.boolean("bool"));
  EXPECT_EQ(m.text("text"), "hello");
  EXPECT_EQ(m.texts("texts"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(m.integers("ints"), (std::vector<int64_t>{1, -1}));
  EXPECT_EQ(file.tensors()[0].shape, (std::vector<int64_t>{2, 3}));  // outermost first
  EXPECT_THROW(m.text("u8"), Error);
  EXPECT_THROW(m.integer("none"), Error);
}

TEST_F(Gguf, EachLieGetsItsSentence) {
  EXPECT_EQ(message_of("GGML...."), "not a GGUF file");
  EXPECT_EQ(message_of(""), "not a GGUF file");
  EXPECT_EQ(message_of(Bytes().head(0, 0, 9).str()), "GGUF version 9, expected 2 or 3");
  EXPECT_EQ(message_of(Bytes().head(0, 0, 1).str()), "GGUF version 1, expected 2 or 3");
  EXPECT_EQ(message_of(Bytes().head(0, 0, 3u << 24).str()), "a big-endian GGUF file; moiety reads little-endian ones");
  EXPECT_NE(message_of(Bytes().head(uint64_t{1} << 60, 0).str()).find("claims 1152921504606846976 tensors"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, uint64_t{1} << 60).str()).find("metadata values in"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(8).put<uint64_t>(~uint64_t{0}).str()).find("a string of 18446744073709551615 bytes"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(0).put<uint64_t>(uint64_t{1} << 40).str()).find("a list of 1099511627776 values"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(9).put<uint64_t>(1).str()).find("a list of 1 values, 0 bytes left"),
            std::string::npos);
  Bytes deep;
  deep.head(0, 1).text("k").put<uint32_t>(9);
  for (int i = 0; i < 100000; ++i) deep.put<uint32_t>(9).put<uint64_t>(1);
  EXPECT_EQ(message_of(deep.str()), "metadata k: lists nested more than 4 deep");
  EXPECT_EQ(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(99).put<uint64_t>(1).str()),
            "metadata k: value type 99 is unknown; GGUF has integers, floats, truth values, strings and lists (0 to 12)");
  EXPECT_EQ(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(7).put<uint8_t>(2).str()),
            "metadata k: a truth value must be 0 or 1, found 2");
  EXPECT_NE(message_of(Bytes().head(0, 2).text("k").put<uint32_t>(0).put<uint8_t>(2).text("k").put<uint32_t>(0).put<uint8_t>(2).str()).find("comes twice"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("general.alignment").put<uint32_t>(4).put<uint32_t>(33).str()).find("power of two"), std::string::npos);

  EXPECT_EQ(message_of(Bytes().head(1, 0).tensor("w", {}, 0, 0).data(4).str()), "tensor w: 0 dimensions, expected 1 to 4");
  EXPECT_EQ(message_of(Bytes().head(1, 0).tensor("w", {1, 1, 1, 1, 1}, 0, 0).data(4).str()), "tensor w: 5 dimensions, expected 1 to 4");
  EXPECT_EQ(message_of(Bytes().head(1, 0).tensor("w", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0).data(4).str()),
            "tensor w: its sizes multiply to more than any file holds");
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 777, 0).data(16).str()).find("ggml's element type 777 is not one that moiety knows (F32, F16, BF16, Q8_0, Q4_0,"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {33}, 8, 0).data(64).str()).find("Q8_0 comes in blocks of 32"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 0, 7).data(64).str()).find("not a multiple of the alignment"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 0, 0).data(15).str()).find("past the end of the file"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 0, ~uint64_t{31}).data(16).str()).find("past the end of the file"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(2, 0).tensor("a", {16}, 0, 0).tensor("b", {16}, 0, 32).data(96).str()).find("tensors a and b overlap"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(2, 0).tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32).data(64).str()).find("tensor a comes twice"),
            std::string::npos);
}

TEST_F(Gguf, EveryKindOfListIsReadOrPassedOver) {
  Bytes b;
  b.head(1, 16, 2);
  b.text("u8").put<uint32_t>(9).put<uint32_t>(0).put<uint64_t>(2).put<uint8_t>(1).put<uint8_t>(255);
  b.text("i8").put<uint32_t>(9).put<uint32_t>(1).put<uint64_t>(1).put<int8_t>(-1);
  b.text("u16").put<uint32_t>(9).put<uint32_t>(2).put<uint64_t>(1).put<uint16_t>(65535);
  b.text("i16").put<uint32_t>(9).put<uint32_t>(3).put<uint64_t>(1).put<int16_t>(-2);
  b.text("u32").put<uint32_t>(9).put<uint32_t>(4).put<uint64_t>(1).put<uint32_t>(4000000000u);
  b.text("i32").put<uint32_t>(9).put<uint32_t>(5).put<uint64_t>(0);
  b.text("f32").put<uint32_t>(9).put<uint32_t>(6).put<uint64_t>(1).put<float>(0.5f);
  b.text("bool").put<uint32_t>(9).put<uint32_t>(7).put<uint64_t>(2).put<uint8_t>(1).put<uint8_t>(0);
  b.text("texts").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(1).text("a");
  b.text("nested").put<uint32_t>(9).put<uint32_t>(9).put<uint64_t>(3);
  b.put<uint32_t>(5).put<uint64_t>(2).put<int32_t>(1).put<int32_t>(2);
  b.put<uint32_t>(8).put<uint64_t>(1).text("deep");
  b.put<uint32_t>(9).put<uint64_t>(1).put<uint32_t>(0).put<uint64_t>(1).put<uint8_t>(1);
  b.text("u64").put<uint32_t>(9).put<uint32_t>(10).put<uint64_t>(1).put<uint64_t>(1);
  b.text("i64").put<uint32_t>(9).put<uint32_t>(11).put<uint64_t>(1).put<int64_t>(-3);
  b.text("f64").put<uint32_t>(9).put<uint32_t>(12).put<uint64_t>(1).put<double>(0.25);
  b.text("one i8").put<uint32_t>(1).put<int8_t>(-9);
  b.text("one u16").put<uint32_t>(2).put<uint16_t>(9);
  b.text("one i64").put<uint32_t>(11).put<int64_t>(-10);
  b.tensor("w", {3, 2}, 0, 0).data(24);
  ASSERT_EQ(message_of(b.str()), "opened");
  const GgufFile file(path_);
  EXPECT_EQ(file.parts()[0].version, 2u);
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.integers("u8"), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(m.integers("u32"), (std::vector<int64_t>{4000000000}));
  EXPECT_TRUE(m.integers("i32").empty());
  EXPECT_EQ(m.numbers("f64"), (std::vector<double>{0.25}));
  EXPECT_EQ(std::get<GgufNestedList>(m.value("nested")).count, 3u);
  EXPECT_EQ(m.integer("one i64"), -10);
}

TEST_F(Gguf, TensorsMayLieInAnyOrder) {
  Bytes b;
  b.head(3, 0).tensor("c", {8}, 0, 64).tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 32).data(96);
  ASSERT_EQ(message_of(b.str()), "opened");
  const GgufFile file(path_);
  EXPECT_EQ(file.tensors()[0].name, "c");
  EXPECT_EQ(file.tensors()[0].bytes.data(), file.tensors()[2].bytes.data() + 32);
}

// --- A model in several files ---

class SplitGguf : public Gguf {
 protected:
  fs::path part_path(int number, int count) const { return folder_ / fmt::format("m-{:05}-of-{:05}.gguf", number, count); }
  void write_part(int number, int count, int64_t tensors, const std::vector<std::string>& names) {
    GgufMetadata metadata;
    metadata.set("split.count", int64_t{count});
    metadata.set("split.no", int64_t{number - 1});
    metadata.set("split.tensors.count", tensors);
    if (number == 1) metadata.set("general.architecture", std::string("test"));
    std::vector<TensorSource> sources;
    for (const std::string& name : names) {
      sources.push_back(TensorView{name, spec::ElementType::F32, {4}, std::as_bytes(std::span(values_))});
    }
    write_gguf(part_path(number, count), metadata, sources);
  }
  void write_good() {
    write_part(1, 3, 4, {});
    write_part(2, 3, 4, {"b", "a"});
    write_part(3, 3, 4, {"d", "c"});
  }
  std::string error_of(const fs::path& path) {
    try {
      GgufFile file(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "opened";
  }
  std::vector<float> values_ = {1, 2, 3, 4};
};

TEST_F(SplitGguf, AnyPartOpensAll) {
  write_good();
  for (int number = 1; number <= 3; ++number) {
    const GgufFile file(part_path(number, 3));
    ASSERT_EQ(file.tensors().size(), 4u);
    EXPECT_EQ(file.tensors()[0].name, "b");
    EXPECT_EQ(to_floats(file.tensors()[3]), values_);
    EXPECT_EQ(file.metadata().text("general.architecture"), "test");
    ASSERT_EQ(file.parts().size(), 3u);
    EXPECT_EQ(file.parts()[1].path, part_path(2, 3));
    EXPECT_EQ(file.parts()[1].tensors, 2u);
  }
}

TEST_F(SplitGguf, AMissingPartIsNamed) {
  write_good();
  fs::remove(part_path(2, 3));
  EXPECT_EQ(error_of(part_path(3, 3)), part_path(3, 3).string() + ": part 3 of 3; missing beside it: m-00002-of-00003.gguf");
  write_good();
  fs::rename(part_path(1, 3), folder_ / "other.gguf");
  EXPECT_NE(error_of(folder_ / "other.gguf").find("whose name must end in -00001-of-00003.gguf"), std::string::npos);
}

TEST_F(SplitGguf, PartsThatContradictEachOtherAreNamed) {
  write_good();
  write_part(2, 3, 5, {"b", "a"});
  EXPECT_NE(error_of(part_path(1, 3)).find("m-00002-of-00003.gguf: it says that it is part 2 of 3 with 5 tensors in all"), std::string::npos);
  write_good();
  fs::copy_file(part_path(3, 3), part_path(2, 3), fs::copy_options::overwrite_existing);
  EXPECT_NE(error_of(part_path(1, 3)).find("m-00002-of-00003.gguf: it says that it is part 3 of 3"), std::string::npos);
  write_good();
  write_part(2, 3, 4, {"b"});
  EXPECT_NE(error_of(part_path(1, 3)).find("3 tensors in 3 parts, split.tensors.count says 4"), std::string::npos);
  write_good();
  write_part(2, 3, 4, {"c", "a"});
  EXPECT_NE(error_of(part_path(1, 3)).find("tensor c comes in two parts"), std::string::npos);
}

TEST_F(SplitGguf, AbsurdNumbersOfPartsAreRefused) {
  for (const int64_t count : {int64_t{-1}, int64_t{1} << 40}) {
    GgufMetadata metadata;
    metadata.set("split.count", count);
    metadata.set("split.no", int64_t{0});
    metadata.set("split.tensors.count", int64_t{0});
    write_gguf(path_, metadata, {});
    EXPECT_NE(error_of(path_).find("no part of anything"), std::string::npos);
  }
}

TEST_F(Gguf, WhatIsWrittenIsRead) {
  GgufMetadata metadata;
  metadata.set("general.architecture", std::string("test"));
  metadata.set("n", int64_t{-5});
  metadata.set("x", 0.5);
  metadata.set("list", std::vector<std::string>{"a", ""});
  std::vector<float> values(64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 31.5f;
  TensorSource tensor(TensorView{"w", spec::ElementType::F32, {2, 32}, std::as_bytes(std::span(values))});
  tensor.type = spec::ElementType::Q8_0;
  write_gguf(path_, metadata, {tensor});
  const GgufFile file(path_);
  EXPECT_EQ(file.metadata().integer("n"), -5);
  EXPECT_EQ(file.metadata().texts("list"), (std::vector<std::string>{"a", ""}));
  ASSERT_EQ(file.tensors()[0].type, spec::ElementType::Q8_0);
  const auto back = to_floats(file.tensors()[0]);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(back[i], values[i], 31.5 / 127 * 0.52);
}

TEST_F(Gguf, TruncatedAnywhereOrWithAnyBitFlippedItOpensOrSaysWhyNot) {
  GgufMetadata metadata;
  metadata.set("general.architecture", std::string("test"));
  metadata.set("list", std::vector<std::string>{"a", "b"});
  metadata.set("ints", std::vector<int64_t>{1, 2});
  const std::vector<float> values(32, 1.0f);
  write_gguf(path_, metadata, {TensorSource(TensorView{"w", spec::ElementType::F32, {32}, std::as_bytes(std::span(values))})});
  const std::string good = read_file(path_);
  for (size_t length = 0; length < good.size(); ++length) EXPECT_NE(message_of(good.substr(0, length)), "opened") << length;
  Random random(1);
  for (int trial = 0; trial < 1000; ++trial) {
    std::string bad = good;
    for (uint64_t flips = 1 + random.below(3); flips > 0; --flips) bad[random.below(bad.size())] ^= static_cast<char>(1 << random.below(8));
    message_of(bad);
  }
}

}  // namespace
}  // namespace moiety::format
