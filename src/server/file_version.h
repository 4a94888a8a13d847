// Whether a file is still the one that was read.
#pragma once

#include <cstdint>
#include <optional>

#include "base/file.h"

namespace moiety::server {

struct FileVersion {
  int64_t nanoseconds = 0;  // when it was written
  int64_t bytes = 0;
  uint64_t inode = 0;
  bool operator==(const FileVersion&) const = default;
};

// Nothing if the file isn't there.
std::optional<FileVersion> file_version(const fs::path& file);

}  // namespace moiety::server
