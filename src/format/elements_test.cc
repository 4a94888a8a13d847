#include "format/elements.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "format/blocks.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "support/fixtures.h"

namespace moiety::format {
namespace {

using spec::ElementType;

std::vector<std::byte> encoded(ElementType type, std::span<const float> floats) {
  std::vector<std::byte> bytes(spec::bytes_of(type, floats.size()));
  from_floats(type, floats, bytes);
  return bytes;
}

std::vector<float> decoded(ElementType type, std::span<const std::byte> bytes, size_t count) {
  std::vector<float> floats(count);
  to_floats(type, bytes, floats);
  return floats;
}

std::vector<float> there_and_back(ElementType type, std::span<const float> floats) {
  return decoded(type, encoded(type, floats), floats.size());
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(Elements, ABlockIsReadAsItIsWritten) {
  // 0x3c00 is 1 in half precision, 0x4000 is 2.
  std::vector<std::byte> q4_0(18, std::byte{0x88});
  q4_0[0] = std::byte{0x00}, q4_0[1] = std::byte{0x40}, q4_0[2] = std::byte{0xf0};
  const auto a = decoded(ElementType::Q4_0, q4_0, 32);
  EXPECT_EQ(a[0], -16);
  EXPECT_EQ(a[16], 14);
  EXPECT_EQ(a[1], 0);

  std::vector<std::byte> mxfp4(17, std::byte{0});
  mxfp4[0] = std::byte{128}, mxfp4[1] = std::byte{0xf7}, mxfp4[16] = std::byte{0x19};
  const auto b = decoded(ElementType::MXFP4, mxfp4, 32);
  EXPECT_EQ(b[0], 12);
  EXPECT_EQ(b[16], -12);
  EXPECT_EQ(b[15], -1);
  EXPECT_EQ(b[31], 1);
}

TEST(Elements, PlanesHaveNeighboursInAByteAndScalesOfTheirOwn) {
  std::vector<std::byte> blocks(32, std::byte{0});
  blocks[0] = std::byte{0x72};   // 1 and 6
  blocks[16] = std::byte{0xa1};  // 0.5 and -1
  const auto scales = bytes_of({126, 129});
  const TensorView tensor{"w", ElementType::MXFP4_PLANES, {1, 64}, blocks, 0, {scales.data(), 2, 1, 32}};
  const auto floats = to_floats(tensor);
  EXPECT_EQ(floats[0], 0.5f);
  EXPECT_EQ(floats[1], 3);
  EXPECT_EQ(floats[32], 2);
  EXPECT_EQ(floats[33], -4);
}

TEST(Elements, AGridOfScalesHasPartialBlocksAtItsEdges) {
  const std::vector<std::byte> ones(5 * 40, std::byte{0x38});  // 1 in E4M3
  std::vector<float> grid(2 * 2);
  std::iota(grid.begin(), grid.end(), 1.0f);
  const TensorView tensor{"w", ElementType::F8_E4M3, {5, 40}, ones, 0, {std::as_bytes(std::span(grid)).data(), 8, 3, 32}};
  const auto floats = to_floats(tensor);
  EXPECT_EQ(floats[0], 1);
  EXPECT_EQ(floats[31], 1);
  EXPECT_EQ(floats[32], 2);
  EXPECT_EQ(floats[2 * 40 + 39], 2);
  EXPECT_EQ(floats[3 * 40], 3);
  EXPECT_EQ(floats[4 * 40 + 39], 4);
}

TEST(Elements, RowsMayLieApart) {
  const std::vector<float> interleaved = {1, 2, -1, -1, 3, 4, -1, -1, 5, 6};
  const TensorView tensor{"w", ElementType::F32, {3, 2}, std::as_bytes(std::span(interleaved)), 16};
  EXPECT_EQ(to_floats(tensor), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  test::TemporaryFolder folder;
  AtomicFile file(folder.path() / "x");
  write_elements(file, TensorSource(tensor));
  file.commit();
  EXPECT_EQ(read_file(folder.path() / "x").size(), 24u);
}

TEST(Elements, WhatIsWrittenIsWithinHalfAStepOfWhatItWas) {
  Random random(3);
  std::vector<float> x(32 * 40);
  for (float& value : x) value = static_cast<float>(random.normal());
  const auto error = [&](ElementType type, size_t block) {
    const auto back = there_and_back(type, x);
    float largest = 0, range = 0, least = INFINITY, most = -INFINITY;
    for (size_t i = block * 32; i < block * 32 + 32; ++i) {
      largest = std::max(largest, std::abs(back[i] - x[i]));
      range = std::max(range, std::abs(x[i]));
      least = std::min(least, x[i]), most = std::max(most, x[i]);
    }
    return std::array{largest / range, largest / (most - least)};
  };
  for (size_t block = 0; block < 40; ++block) {
    EXPECT_LE(error(ElementType::Q8_0, block)[0], 0.51f / 127);
    // The largest magnitude is the lowest quantum, so the other end of the range may be a whole step away.
    EXPECT_LE(error(ElementType::Q4_0, block)[0], 1.01f / 8);
    EXPECT_LE(error(ElementType::Q5_0, block)[0], 1.01f / 16);
    EXPECT_LE(error(ElementType::Q4_1, block)[1], 0.51f / 15);
    EXPECT_LE(error(ElementType::Q5_1, block)[1], 0.51f / 31);
    EXPECT_LE(error(ElementType::MXFP4, block)[0], 0.251f);
  }
}

TEST(Elements, FourBitFloatsSurviveUnchanged) {
  Random random(5);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<std::byte> block(17);
    for (std::byte& b : block) b = static_cast<std::byte>(random.below(256));
    block[0] = static_cast<std::byte>(10 + random.below(200));
    const auto floats = decoded(ElementType::MXFP4, block, 32);
    EXPECT_EQ(there_and_back(ElementType::MXFP4, floats), floats);
  }
}

TEST(Elements, AnyFloatsAreWrittenWithoutHarm) {
  for (const auto& type : spec::element_types()) {
    if (!can_write(type.type)) continue;
    for (const float x : {0.0f, -0.0f, 1e-45f, -1e-38f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN}) {
      std::vector<float> floats(256, x);
      encoded(type.type, floats);
      floats[5] = 1;
      encoded(type.type, floats);
    }
    const std::vector<float> zeros(256);
    EXPECT_EQ(there_and_back(type.type, zeros), zeros) << type.name;
  }
}

TEST(Elements, WhatIsNotWrittenIsSaidInASentence) {
  std::vector<float> floats(256);
  std::vector<std::byte> bytes(74);
  EXPECT_FALSE(can_write(ElementType::IQ2_XS));
  EXPECT_THROW(from_floats(ElementType::IQ2_XS, floats, bytes), Error);
}

// tests/parity/ggml_blocks.cc wrote down what ggml reads from random blocks of every type.
TEST(Elements, BlocksAreReadAsGgmlReadsThem) {
  const SafetensorsFile golden(test::small_fixtures() / "ggml_blocks.safetensors");
  const auto tensor = [&](const std::string& name) {
    const auto& all = golden.tensors();
    const auto it = std::find_if(all.begin(), all.end(), [&](const TensorView& t) { return t.name == name; });
    return it == all.end() ? std::nullopt : std::optional(*it);
  };
  for (const auto& type : spec::element_types()) {
    if (block_decoder(type.type) == nullptr) continue;
    const auto blocks = tensor(fmt::format("{}.blocks", type.name)), floats = tensor(fmt::format("{}.floats", type.name));
    ASSERT_TRUE(blocks && floats) << type.name;
    const std::vector<float> wanted = to_floats(*floats);
    EXPECT_EQ(decoded(type.type, blocks->bytes, wanted.size()), wanted) << type.name;
  }
}

// llama.cpp's own quantiser made the fixtures from the same f32 weights.
TEST(Elements, BlocksAreThoseOfLlamaCpp) {
  size_t compared = 0;
  for (const char* model : {"mixtral", "olmoe", "qwen3_moe"}) {
    for (const char* type : {"Q4_0", "Q8_0"}) {
      const auto folder = fs::path("models") / model / "gguf";
      const auto plain = test::fixture(folder / fmt::format("{}-f32.gguf", model));
      const auto packed = test::fixture(folder / fmt::format("{}-{}.gguf", model, type));
      if (!plain || !packed) GTEST_SKIP() << "the whole fixture set is not here";
      const GgufFile from(*plain), to(*packed);
      for (const TensorView& wanted : to.tensors()) {
        if (block_encoder(wanted.type) == nullptr) continue;
        const auto source = std::find_if(from.tensors().begin(), from.tensors().end(),
                                         [&](const TensorView& t) { return t.name == wanted.name; });
        ASSERT_NE(source, from.tensors().end());
        const auto bytes = encoded(wanted.type, to_floats(*source));
        EXPECT_TRUE(std::ranges::equal(bytes, wanted.bytes)) << model << " " << type << " " << wanted.name;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 50u);
}

}  // namespace
}  // namespace moiety::format
