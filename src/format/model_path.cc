#include "format/model_path.h"

#include "base/error.h"

namespace moiety::format {
namespace {

// Checkpoints appear under their final name only when complete, and their names sort by step.
fs::path newest_checkpoint(const fs::path& folder) {
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && fs::exists(entry.path() / "model.safetensors") &&
        (newest.empty() || name > newest.filename().string())) {
      newest = entry.path();
    }
  }
  return newest;
}

}  // namespace

fs::path resolve_model_path(const fs::path& path) {
  std::error_code ignored;
  require(fs::exists(path, ignored), "{}: no such file or folder", path.string());
  if (!fs::is_directory(path, ignored)) return path;
  if (fs::exists(path / "config.json", ignored)) return path;
  const fs::path checkpoints = path / "checkpoints";
  if (fs::is_directory(checkpoints, ignored)) {
    const fs::path newest = newest_checkpoint(checkpoints);
    require(!newest.empty(), "{}: a training run without a finished checkpoint", path.string());
    return newest;
  }
  fail(ErrorKind::Input, "{}: neither a Hugging Face folder (config.json), nor a training run (checkpoints/), nor a file",
       path.string());
}

}  // namespace moiety::format
