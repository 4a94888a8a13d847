#include "engine/saved_logits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "engine/divergence.h"
#include "support/fixtures.h"

namespace moiety::engine {
namespace {

std::vector<std::vector<float>> predictions(size_t count, size_t vocabulary) {
  Random random(1);
  std::vector<std::vector<float>> out(count, std::vector<float>(vocabulary));
  for (auto& row : out) {
    for (float& x : row) x = static_cast<float>(4 * random.normal());
    to_log_probabilities(row);
  }
  return out;
}

void write(const fs::path& path, const std::vector<std::vector<float>>& rows) {
  LogitsWriter writer(path, static_cast<int>(rows[0].size()), 512);
  for (size_t i = 0; i < rows.size(); ++i) writer.add(rows[i], static_cast<int32_t>(i));
  writer.commit();
}

TEST(SavedLogits, WhatIsReadDivergesHardly) {
  test::TemporaryFolder folder;
  const auto rows = predictions(20, 1000);
  write(folder.path() / "p", rows);
  EXPECT_TRUE(SavedLogits::is_such(folder.path() / "p"));
  const SavedLogits saved(folder.path() / "p");
  ASSERT_EQ(saved.size(), rows.size());
  EXPECT_EQ(saved.vocab_size(), 1000);
  EXPECT_EQ(saved.window(), 512u);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<float> back(1000);
    saved.read(i, back);
    EXPECT_EQ(saved.token(i), static_cast<int32_t>(i));
    EXPECT_LT(compare(back, rows[i], 0).kl, 1e-6);
  }
}

TEST(SavedLogits, WhatIsAlmostImpossibleCountsAsAlmostImpossible) {
  test::TemporaryFolder folder;
  write(folder.path() / "p", {{0, -1000, -INFINITY}});
  std::vector<float> back(3);
  SavedLogits(folder.path() / "p").read(0, back);
  EXPECT_NEAR(back[0], 0, 1e-6);
  EXPECT_NEAR(back[1], -32, 1e-3);
  EXPECT_NEAR(back[2], -32, 1e-3);
}

TEST(SavedLogits, OtherFilesAndTruncatedOnesAreRefused) {
  test::TemporaryFolder folder;
  const fs::path path = folder.path() / "p";
  write(path, predictions(2, 10));
  const std::string whole = read_file(path);
  for (size_t n = 0; n < whole.size(); ++n) {
    if (n >= 20 && (n - 20) % 32 == 0) continue;  // fewer predictions, but whole ones
    test::write_bytes(path, whole.substr(0, n));
    EXPECT_THROW(SavedLogits{path}, Error) << n;
  }
  test::write_bytes(path, std::string("GGUF") + whole.substr(4));
  EXPECT_FALSE(SavedLogits::is_such(path));
  EXPECT_THROW(SavedLogits{path}, Error);
}

TEST(SavedLogits, NumbersThatAreNoneAreRefused) {
  test::TemporaryFolder folder;
  const fs::path path = folder.path() / "p";
  write(path, predictions(1, 10));
  std::string bytes = read_file(path);
  bytes.replace(20 + 8, 4, "\xff\xff\xff\xff", 4);  // the step
  test::write_bytes(path, bytes);
  std::vector<float> out(10);
  EXPECT_THROW(SavedLogits(path).read(0, out), Error);
}

}  // namespace
}  // namespace moiety::engine
