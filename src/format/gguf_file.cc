#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "format/gguf.h"

namespace moiety::format {
namespace {

constexpr int64_t kMostParts = 65535;

// Which part of how many a file says it is.
struct Split {
  int64_t number = 0, count = 1, tensors = 0;
};

Split split_of(const GgufMetadata& metadata) {
  Split split;
  if (metadata.has("split.count")) split.count = metadata.integer("split.count");
  if (split.count == 0) split.count = 1;
  if (split.count == 1) return split;
  split.number = metadata.integer("split.no");
  split.tensors = metadata.integer("split.tensors.count");
  require(split.count > 1 && split.count <= kMostParts && split.number >= 0 && split.number < split.count,
          "{}: split.no is {} and split.count {}: no part of anything", metadata.where, split.number, split.count);
  return split;
}

std::string ending(int64_t number, int64_t count) { return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count); }

// The names of all parts, from the name of one.
std::vector<fs::path> paths_of(const fs::path& path, const Split& split) {
  const std::string name = path.filename().string(), own = ending(split.number, split.count);
  require(name.ends_with(own), "{}: part {} of {}, whose name must end in {} so that the others can be found",
          path.string(), split.number + 1, split.count, own);
  const std::string stem = name.substr(0, name.size() - own.size());
  std::vector<fs::path> paths;
  std::string missing;
  for (int64_t i = 0; i < split.count; ++i) {
    paths.push_back(path.parent_path() / (stem + ending(i, split.count)));
    if (std::error_code ignored; missing.size() < 500 && !fs::exists(paths.back(), ignored)) {
      missing += (missing.empty() ? "" : ", ") + paths.back().filename().string();
    }
  }
  require(missing.empty(), "{}: part {} of {}; missing beside it: {}", path.string(), split.number + 1, split.count, missing);
  return paths;
}

}  // namespace

GgufContents GgufFile::open(const fs::path& path) {
  files_.emplace_back(path);
  return parse_gguf(files_.back().bytes(), path.string());
}

void GgufFile::add(const fs::path& path, GgufContents contents) {
  parts_.push_back({path, contents.version, contents.tensors.size(), fs::file_size(path)});
  tensors_.insert(tensors_.end(), std::make_move_iterator(contents.tensors.begin()),
                  std::make_move_iterator(contents.tensors.end()));
}

GgufFile::GgufFile(const fs::path& path) {
  GgufContents named = open(path);
  const Split split = split_of(named.metadata);
  if (split.count == 1) {
    metadata_ = std::move(named.metadata);
    add(path, std::move(named));
    return;
  }

  const std::vector<fs::path> paths = paths_of(path, split);
  for (int64_t i = 0; i < split.count; ++i) {
    GgufContents part = i == split.number ? std::move(named) : open(paths[i]);
    const Split own = split_of(part.metadata);
    require(own.number == i && own.count == split.count && own.tensors == split.tensors,
            "{}: it says that it is part {} of {} with {} tensors in all, {} says part {} of {} with {}", paths[i].string(),
            own.number + 1, own.count, own.tensors, path.string(), split.number + 1, split.count, split.tensors);
    if (i == 0) metadata_ = part.metadata;
    add(paths[i], std::move(part));
  }

  require(static_cast<int64_t>(tensors_.size()) == split.tensors, "{}: {} tensors in {} parts, split.tensors.count says {}",
          path.string(), tensors_.size(), split.count, split.tensors);
  std::unordered_set<std::string_view> names;
  for (const TensorView& tensor : tensors_) {
    require(names.insert(tensor.name).second, "{}: tensor {} comes in two parts", path.string(), tensor.name);
  }
}

}  // namespace moiety::format
