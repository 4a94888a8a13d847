#include <fstream>

#include "format/hf_config.h"
#include "fuzz.h"

namespace {

namespace fs = std::filesystem;

// The reader takes a folder: one in memory where there is such a place.
struct Folder {
  fs::path path;
  Folder() {
    const fs::path memory = "/dev/shm";
    std::string name = ((fs::is_directory(memory) ? memory : fs::temp_directory_path()) / "moiety-fuzz-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  static const Folder folder;
  std::ofstream(folder.path / "config.json", std::ios::binary) << fuzz::text_of(data, size);
  return fuzz::refuse_or([&] {
    const spec::ModelSpec spec = format::read_hf_config(folder.path);
    spec::model_spec_from_json(spec::to_json(spec), "fuzz");
  });
}
