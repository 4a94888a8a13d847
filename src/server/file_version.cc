#include "server/file_version.h"

#include <sys/stat.h>

namespace moiety::server {

std::optional<FileVersion> file_version(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return std::nullopt;
  return FileVersion{status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec, status.st_size, status.st_ino};
}

}  // namespace moiety::server
