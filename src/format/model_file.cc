#include "format/model_file.h"

#include <set>

#include "base/json.h"
#include "format/gguf_config.h"
#include "format/hf_config.h"
#include "format/model_path.h"

namespace moiety::format {
namespace {

using spec::Weight;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// The files that the index of a sharded checkpoint names.
std::vector<fs::path> shards_of(const fs::path& folder) {
  if (!fs::exists(folder / kIndex)) {
    require(fs::exists(folder / kSingle), "{}: no {} and no {}", folder.string(), kSingle, kIndex);
    return {folder / kSingle};
  }
  const std::string where = (folder / kIndex).string();
  const Json index = parse_json(read_file(where), where);
  std::set<std::string> names;
  for (const auto& [tensor, file] : JsonObject(index, where).object("weight_map").json().items()) {
    require(file.is_string(), "{}: weight_map must map tensor names to file names", where);
    names.insert(file.get<std::string>());
  }
  std::vector<fs::path> paths;
  for (const std::string& name : names) {
    require(!name.empty() && name.find('/') == name.npos, "{}: \"{}\" is not the name of a file in this folder", where,
            name);
    paths.push_back(folder / name);
  }
  return paths;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += fmt::format("{}{}", text.empty() ? "" : " x ", size);
  return "[" + text + "]";
}

// The same elements; a vector may be written as a matrix of one row.
bool same_shape(const std::vector<int64_t>& found, const std::vector<int64_t>& wanted) {
  if (found == wanted) return true;
  const auto without_leading_one = [](std::vector<int64_t> shape) {
    if (shape.size() == 2 && shape[0] == 1) shape.erase(shape.begin());
    return shape;
  };
  return without_leading_one(found) == without_leading_one(wanted);
}

}  // namespace

ModelFile::ModelFile(const fs::path& path) : path_(resolve_model_path(path)) {
  if (fs::is_directory(path_)) {
    open_folder();
  } else {
    gguf_ = std::make_unique<GgufFile>(path_);
    spec_ = read_gguf_config(*gguf_);
    names_ = &family_named(spec_.family)->gguf_names;
    tensors_ = gguf_->tensors();
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    require(index_.emplace(tensors_[i].name, i).second, "{}: tensor {} comes twice", path_.string(), tensors_[i].name);
  }
  check_weights();
}

void ModelFile::open_folder() {
  spec_ = read_hf_config(path_);
  const Family* family = family_named(spec_.family);
  names_ = family != nullptr ? &family->hf_names : &kOurNames;
  shard_paths_ = shards_of(path_);
  for (const fs::path& shard : shard_paths_) {
    shards_.emplace_back(shard);
    tensors_.insert(tensors_.end(), shards_.back().tensors().begin(), shards_.back().tensors().end());
  }
}

std::vector<fs::path> ModelFile::files() const {
  if (!gguf_) return shard_paths_;
  std::vector<fs::path> paths;
  for (const GgufFile::Part& part : gguf_->parts()) paths.push_back(part.path);
  return paths;
}

TensorView ModelFile::weight(const Weight& weight) const {
  const std::string name = names_->name(weight);
  const auto it = index_.find(name);
  require(it != index_.end(), "{}: tensor {} is missing", path_.string(), name);
  TensorView tensor = tensors_[it->second];

  std::vector<int64_t> wanted = spec::shape_of(spec_, weight.role);
  const bool stacked = spec::is_expert(weight.role) && names_->stacks_experts();
  const int64_t experts = spec_.moe.router.num_experts;
  if (stacked) wanted.insert(wanted.begin(), experts);
  require(same_shape(tensor.shape, wanted), "{}: tensor {} has the shape {}, the config calls for {}", path_.string(),
          name, shape_text(tensor.shape), shape_text(wanted));
  require(spec::info(tensor.type).is_weight, "{}: tensor {} is {}, which is no type for weights", path_.string(), name,
          spec::name(tensor.type));
  if (stacked && weight.expert >= 0) {
    const size_t bytes = tensor.bytes.size() / static_cast<size_t>(experts);
    tensor.bytes = tensor.bytes.subspan(bytes * static_cast<size_t>(weight.expert), bytes);
    wanted.erase(wanted.begin());
  }
  tensor.shape = wanted;
  return tensor;
}

void ModelFile::check_weights() const {
  for (const Weight& w : spec::weights_of(spec_, !names_->stacks_experts())) weight(w);
}

}  // namespace moiety::format
