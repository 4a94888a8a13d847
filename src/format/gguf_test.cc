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
  EXPECT_NE(message_of(Bytes().head(uint64_t{1} << 60, 0).str()).find("claims 1152921504606846976 tensors"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, uint64_t{1} << 60).str()).find("metadata values in"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(8).put<uint64_t>(~uint64_t{0}).str()).find("a string of 18446744073709551615 bytes"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(0).put<uint64_t>(uint64_t{1} << 40).str()).find("a list of 1099511627776 values"),
            std::string::npos);
  EXPECT_EQ(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(9).put<uint64_t>(1).str()),
            "metadata k: a list of lists is not supported");
  EXPECT_EQ(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(99).put<uint64_t>(1).str()), "metadata k: value type 99 is unknown");
  EXPECT_EQ(message_of(Bytes().head(0, 1).text("k").put<uint32_t>(7).put<uint8_t>(2).str()),
            "metadata k: a truth value must be 0 or 1, found 2");
  EXPECT_NE(message_of(Bytes().head(0, 2).text("k").put<uint32_t>(0).put<uint8_t>(2).text("k").put<uint32_t>(0).put<uint8_t>(2).str()).find("comes twice"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(0, 1).text("general.alignment").put<uint32_t>(4).put<uint32_t>(33).str()).find("power of two"), std::string::npos);

  EXPECT_EQ(message_of(Bytes().head(1, 0).tensor("w", {}, 0, 0).data(4).str()), "tensor w: 0 dimensions, expected 1 to 4");
  EXPECT_EQ(message_of(Bytes().head(1, 0).tensor("w", {1, 1, 1, 1, 1}, 0, 0).data(4).str()), "tensor w: 5 dimensions, expected 1 to 4");
  EXPECT_EQ(message_of(Bytes().head(1, 0).tensor("w", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0).data(4).str()),
            "tensor w: its sizes multiply to more than any file holds");
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 777, 0).data(16).str()).find("element type 777 is not one"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {33}, 8, 0).data(64).str()).find("Q8_0 comes in blocks of 32"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 0, 7).data(64).str()).find("not a multiple of the alignment"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 0, 0).data(15).str()).find("past the end of the file"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(1, 0).tensor("w", {4}, 0, ~uint64_t{31}).data(16).str()).find("past the end of the file"), std::string::npos);
  EXPECT_NE(message_of(Bytes().head(2, 0).tensor("a", {16}, 0, 0).tensor("b", {16}, 0, 32).data(96).str()).find("tensors a and b overlap"),
            std::string::npos);
  EXPECT_NE(message_of(Bytes().head(2, 0).tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32).data(64).str()).find("tensor a comes twice"),
            std::string::npos);
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
