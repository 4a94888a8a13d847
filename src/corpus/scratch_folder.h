// For tests: a folder that goes away by itself.
#pragma once

#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "base/file.h"

namespace moiety::corpus {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "moiety-corpus-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const fs::path& path() const { return path_; }
  void write(const fs::path& name, std::string_view text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  std::string read(const fs::path& name) const { return read_file(path_ / name); }

 private:
  fs::path path_;
};

}  // namespace moiety::corpus
