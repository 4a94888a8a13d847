#include "base/file.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "support/fixtures.h"

namespace moiety {
namespace {

class FileTest : public testing::Test {
 protected:
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

TEST_F(FileTest, WithoutCommitTheOldFileStaysAndNothingIsLeftBeside) {
  write_file(folder_ / "a", "old");
  {
    AtomicFile file(folder_ / "a");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, CommitReplacesWhole) {
  write_file(folder_ / "a", "old");
  AtomicFile file(folder_ / "a");
  const std::string large(3 << 20, 'x');
  file.write(large);
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  file.commit();
  EXPECT_EQ(read_file(folder_ / "a"), large);
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, AFolderAppearsCompleteOrNotAtAll) {
  {
    AtomicFolder folder(folder_ / "out");
    write_file(folder.path() / "a", "1");
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  }
  EXPECT_EQ(entries(), 0u);
  for (const char* text : {"1", "2"}) {  // the second replaces the first
    AtomicFolder folder(folder_ / "out/");
    write_file(folder.path() / "a", text);
    folder.commit();
    EXPECT_EQ(read_file(folder_ / "out" / "a"), text);
  }
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, MapsWhatWasWrittenAndAnEmptyFileToo) {
  write_file(folder_ / "a", "hello");
  write_file(folder_ / "empty", "");
  EXPECT_EQ(MappedFile(folder_ / "a").text(), "hello");
  EXPECT_EQ(MappedFile(folder_ / "empty").text(), "");
  EXPECT_THROW(MappedFile(folder_ / "none"), Error);
  EXPECT_THROW(MappedFile{folder_}, Error);
}

}  // namespace
}  // namespace moiety
