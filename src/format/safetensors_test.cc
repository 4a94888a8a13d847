#include "format/safetensors.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/random.h"
#include "format/elements.h"
#include "support/fixtures.h"

namespace moiety::format {
namespace {

class Safetensors : public testing::Test {
 protected:
  // A file with this header and so many bytes of data.
  void write(const std::string& header, size_t data_bytes) {
    const uint64_t length = header.size();
    test::write_bytes(path_, std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\0'));
  }
  // What opening it says, without the file's name.
  std::string message() const {
    try {
      SafetensorsFile file(path_);
    } catch (const Error& error) {
      const std::string text = error.what();
      return text.starts_with(path_.string() + ": ") ? text.substr(path_.string().size() + 2) : text;
    }
    return "opened";
  }
  std::string message_of(const std::string& header, size_t data_bytes) {
    write(header, data_bytes);
    return message();
  }

  test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path(), path_ = folder_ / "x.safetensors";
};

TEST_F(Safetensors, WhatIsWrittenIsRead) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const TensorView a{"a", spec::ElementType::F32, {2, 3}, std::as_bytes(std::span(values))};
  const TensorView b{"b", spec::ElementType::F32, {2}, std::as_bytes(std::span(values).first(2))};
  write_safetensors(path_, std::vector{a, b}, {{"format", "pt"}});
  const SafetensorsFile file(path_);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(to_floats(file.tensors()[0]), values);
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST_F(Safetensors, EachLieGetsItsSentence) {
  EXPECT_EQ(message_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "opened");
  EXPECT_EQ(message_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7),
            "tensor a: bytes 0 to 8 lie outside the 7 bytes of data");
  EXPECT_EQ(message_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
            "tensor a: 8 bytes of data, but its dtype and shape need 12");
  EXPECT_EQ(message_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
            "tensor a: bytes 8 to 0 lie outside the 8 bytes of data");
  EXPECT_EQ(message_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
            "tensors a and b overlap");
  EXPECT_EQ(message_of(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8),
            "tensor a: dtype \"F31\" is not one that moiety knows (F32, F16, BF16, F8_E4M3, U8, I8, U16, I16, U32, I32, U64, "
            "I64, BOOL, F64, F8_E5M2, F8_E8M0)");
  for (const char* shape : {"[-1]", "[1.5]", "\"2\"", "[4294967296,4294967296,4294967296]", "[18446744073709551615]"}) {
    const std::string text = message_of(R"({"a":{"dtype":"F32","shape":)" + std::string(shape) + R"(,"data_offsets":[0,8]}})", 8);
    EXPECT_NE(text.find("\"shape\""), text.npos) << text;
  }
  EXPECT_NE(message_of(R"({"a":{"dtype":"F32","shape":[2]}})", 8).find("\"data_offsets\" is missing"), std::string::npos);
  EXPECT_NE(message_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999]}})", 8), "opened");
  EXPECT_NE(message_of(R"({"a":7})", 8), "opened");
  EXPECT_NE(message_of(R"([])", 8), "opened");
  EXPECT_NE(message_of(std::string(100000, '['), 0).find("nested deeper"), std::string::npos);
}

TEST_F(Safetensors, AnAbsurdHeaderLengthIsNotBelieved) {
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 40, ~uint64_t{0}}) {
    test::write_bytes(path_, std::string(reinterpret_cast<const char*>(&length), 8) + "{}");
    EXPECT_NE(message().find("it claims a header of"), std::string::npos);
  }
  test::write_bytes(path_, "tiny");
  EXPECT_EQ(message(), "not a safetensors file: only 4 bytes long");
}

TEST_F(Safetensors, TruncatedAnywhereOrWithAnyBitFlippedItOpensOrSaysWhyNot) {
  const std::vector<float> values(64, 1.0f);
  write_safetensors(path_, std::vector{TensorView{"weight", spec::ElementType::F32, {8, 8}, std::as_bytes(std::span(values))}});
  const std::string good = read_file(path_);
  for (size_t length = 0; length < good.size(); ++length) {
    test::write_bytes(path_, good.substr(0, length));
    EXPECT_NE(message(), "opened") << length;
  }
  Random random(1);
  for (int trial = 0; trial < 600; ++trial) {
    std::string bad = good;
    bad[random.below(good.size() - 256)] ^= static_cast<char>(1 << random.below(8));
    test::write_bytes(path_, bad);
    message();
  }
}

TEST_F(Safetensors, ABrokenTensorIsNotPassedOn) {
  const std::vector<float> values = {1, NAN};
  EXPECT_THROW(write_safetensors(path_, std::vector{TensorView{"w", spec::ElementType::F32, {2}, std::as_bytes(std::span(values))}}), Error);
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 0);
}

}  // namespace
}  // namespace moiety::format
