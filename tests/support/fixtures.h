// Where reference answers are found: the small set in the repository, and the whole one where it is.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace moiety::test {

namespace fs = std::filesystem;

// tests/fixtures of this checkout.
inline fs::path small_fixtures() { return fs::path(MOIETY_SOURCE_DIR) / "tests/fixtures"; }

// The whole set: MOIETY_FIXTURES, or ../shared/fixtures beside the checkout.
inline std::optional<fs::path> all_fixtures() {
  const char* named = std::getenv("MOIETY_FIXTURES");
  const fs::path path = named != nullptr ? fs::path(named) : fs::path(MOIETY_SOURCE_DIR).parent_path() / "shared/fixtures";
  if (fs::is_directory(path)) return path;
  return std::nullopt;
}

// `path` in the whole set if it is there, else in the small one, else nothing.
inline std::optional<fs::path> fixture(const fs::path& path) {
  if (const auto all = all_fixtures(); all && fs::exists(*all / path)) return *all / path;
  if (fs::exists(small_fixtures() / path)) return small_fixtures() / path;
  return std::nullopt;
}

// A file written without waiting for the disk, which tests that write thousands would do for long.
inline void write_bytes(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A folder that is removed at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "moiety-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace moiety::test
