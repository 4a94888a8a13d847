#include "base/read_queue.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "support/fixtures.h"

namespace moiety {
namespace {

constexpr size_t kPage = DirectFile::kAlignment;

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};

class ReadQueueTest : public testing::TestWithParam<ReadEngine> {
 protected:
  ReadQueueTest() : path_(folder_.path() / "bytes") {
    Random random(1);
    for (char& c : bytes_) c = static_cast<char>(random.below(256));
    test::write_bytes(path_, bytes_);
  }
  test::TemporaryFolder folder_;
  fs::path path_;
  std::string bytes_ = std::string(300 * kPage + 1234, '\0');
};

TEST_P(ReadQueueTest, ManyReadsInAnyOrderBringTheRightBytes) {
  constexpr size_t kDepth = 7, kMost = 20;
  const DirectFile file(path_);
  const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(std::aligned_alloc(kPage, kDepth * kMost * kPage)));
  ReadQueue queue(kDepth, GetParam());
  Random random(2);
  std::map<size_t, ReadQueue::Read> asked;  // by tag, which is the place in memory
  std::vector<size_t> free;
  for (size_t i = 0; i < kDepth; ++i) free.push_back(i);
  for (int read = 0; read < 500; ++read) {
    while (!free.empty()) {
      const size_t tag = free.back();
      free.pop_back();
      const uint64_t offset = kPage * random.below(bytes_.size() / kPage + 1);
      const size_t size = kPage * (1 + random.below(kMost));
      const ReadQueue::Read next{&file, offset, {memory.get() + tag * kMost * kPage, size}, std::min(size, bytes_.size() - offset), tag};
      asked[tag] = next;
      queue.submit(next);
    }
    size_t tag = 0;
    ASSERT_TRUE(queue.next(tag));
    const ReadQueue::Read& done = asked.at(tag);
    ASSERT_EQ(std::memcmp(done.to.data(), bytes_.data() + done.offset, done.needed), 0);
    free.push_back(tag);
  }
}

TEST_P(ReadQueueTest, AFileThatBecameShorterIsAnErrorOfThatReadAlone) {
  const DirectFile file(path_);
  ASSERT_EQ(::truncate(path_.c_str(), 10 * kPage), 0);
  const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(std::aligned_alloc(kPage, 8 * kPage)));
  ReadQueue queue(2, GetParam());
  size_t tag = 0;
  queue.submit({&file, 8 * kPage, {memory.get(), 4 * kPage}, 4 * kPage, 5});
  try {
    queue.next(tag);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Io);
    EXPECT_NE(std::string(error.what()).find(path_.string()), std::string::npos) << error.what();
  }
  EXPECT_EQ(queue.in_flight(), 0u);
  queue.submit({&file, 9 * kPage, {memory.get(), kPage}, kPage, 6});
  ASSERT_TRUE(queue.next(tag));
  EXPECT_EQ(tag, 6u);
  EXPECT_EQ(std::memcmp(memory.get(), bytes_.data() + 9 * kPage, kPage), 0);
  EXPECT_FALSE(queue.next(tag));
}

TEST_P(ReadQueueTest, AQueueThatGoesWaitsForItsReads) {
  const DirectFile file(path_);
  const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(std::aligned_alloc(kPage, 64 * kPage)));
  {
    ReadQueue queue(8, GetParam());
    for (size_t i = 0; i < 8; ++i) queue.submit({&file, 8 * i * kPage, {memory.get() + 8 * i * kPage, 8 * kPage}, 8 * kPage, i});
  }
  EXPECT_EQ(std::memcmp(memory.get(), bytes_.data(), 64 * kPage), 0);
}

// A file system in memory, which refuses direct reads on many machines.
TEST_P(ReadQueueTest, FilesThatAreInMemoryAreReadToo) {
  if (!fs::is_directory("/dev/shm")) GTEST_SKIP() << "there is no /dev/shm";
  const fs::path path = fmt::format("/dev/shm/moiety-test-{}", ::getpid());
  test::write_bytes(path, bytes_);
  const DirectFile file(path);
  fs::remove(path);
  const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(std::aligned_alloc(kPage, 4 * kPage)));
  ReadQueue queue(1, GetParam());
  queue.submit({&file, kPage, {memory.get(), 4 * kPage}, 4 * kPage, 3});
  size_t tag = 0;
  ASSERT_TRUE(queue.next(tag));
  EXPECT_EQ(std::memcmp(memory.get(), bytes_.data() + kPage, 4 * kPage), 0);
}

TEST(DirectFile, NoFileIsOneSentence) {
  EXPECT_THROW(DirectFile("/nowhere/at/all"), Error);
}

INSTANTIATE_TEST_SUITE_P(Engines, ReadQueueTest, testing::Values(ReadEngine::Best, ReadEngine::Threads));

}  // namespace
}  // namespace moiety
