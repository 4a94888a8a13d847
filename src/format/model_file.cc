#include "format/model_file.h"

#include <cassert>
#include <cstring>
#include <set>

#include "base/json.h"
#include "format/elements.h"
#include "format/gguf_config.h"
#include "format/hf_config.h"
#include "format/model_path.h"
#include "spec/expert_kind.h"

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
    names_ = &family_named(spec_.family)->gguf.names;
    if (PackedExperts::are_in(gguf_->metadata())) packed_ = std::make_unique<PackedExperts>(*gguf_, spec_);
  }
  index_.reserve(tensors().size());
  for (const TensorView& tensor : tensors()) {
    require(index_.emplace(tensor.name, &tensor).second, "{}: tensor {} comes twice", path_.string(), tensor.name);
  }
  check_weights();
}

void ModelFile::open_folder() {
  spec_ = read_hf_config(path_);
  const Family* family = family_named(spec_.family);
  names_ = family != nullptr ? &family->hf.names : spec_.moe.ternary_experts ? &kOurTernaryNames : &kOurNames;
  fp8_block_ = fp8_block(path_);
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

ModelFile::Stored ModelFile::find(const Weight& weight) const {
  const auto rows = names_->rows(weight.role);
  require(!rows.empty(), "{}: files of this family have no place for a tensor that the model needs", path_.string());
  const WeightName* row = nullptr;
  for (const WeightName* candidate : rows) {
    if (row == nullptr && index_.contains(name_of(*candidate, weight))) row = candidate;
  }
  require(row != nullptr, "{}: tensor {} is missing", path_.string(), name_of(*rows.front(), weight));

  Stored stored{*index_.at(name_of(*row, weight)), row->layout, is_stack(*row)};
  const TensorView& tensor = stored.tensor;
  std::vector<int64_t> wanted = stored_shape(spec_, weight.role, row->layout, weight.layer);
  if (stored.is_stack) wanted.insert(wanted.begin(), spec::experts_with(spec_, weight.layer, weight.role));
  require(same_shape(tensor.shape, wanted), "{}: tensor {} has the shape {}, the config calls for {}", path_.string(),
          tensor.name, shape_text(tensor.shape), shape_text(wanted));
  require(has_planes(row->layout) ? tensor.type == spec::ElementType::U8 : spec::info(tensor.type).is_weight,
          "{}: tensor {} is {}; moiety computes with {}", path_.string(), tensor.name, spec::name(tensor.type),
          spec::weight_type_names());
  stored.tensor.shape = wanted;
  add_scales(stored);
  return stored;
}

void ModelFile::add_scales(Stored& stored) const {
  TensorView& tensor = stored.tensor;
  const bool planes = has_planes(stored.layout);
  if (!planes && !spec::info(tensor.type).has_scales) return;

  std::string name = tensor.name + "_scale_inv";
  if (planes) name = tensor.name.substr(0, tensor.name.rfind('_')) + "_scales";
  const auto it = index_.find(name);
  require(it != index_.end(), "{}: tensor {} is {}, but its scales {} are missing", path_.string(), tensor.name,
          planes ? "MXFP4" : spec::name(tensor.type), name);
  const TensorView& scales = *it->second;
  if (!planes) {
    tensor.scales = fp8_scales(tensor, scales);
    return;
  }
  const std::vector<int64_t> wanted(tensor.shape.begin(), tensor.shape.end() - 1);
  require(scales.type == spec::ElementType::U8 || scales.type == spec::ElementType::F8_E8M0,
          "{}: tensor {} is {}, expected U8", path_.string(), name, spec::name(scales.type));
  require(scales.shape == wanted, "{}: tensor {} has the shape {}, expected {}", path_.string(), name,
          shape_text(scales.shape), shape_text(wanted));
  tensor.scales = {scales.bytes.data(), static_cast<size_t>(wanted.back()), 1, 32};
}

// A grid of float32; DeepSeek's 128 x 128 unless the shapes say otherwise.
spec::Scales ModelFile::fp8_scales(const TensorView& tensor, const TensorView& scales) const {
  const auto bad_shape = [&] {
    fail(ErrorKind::Input, "{}: tensor {} has the shape {}, expected one scale for every block of {}", path_.string(),
         scales.name, shape_text(scales.shape), shape_text({fp8_block_.first, fp8_block_.second}));
  };
  require(tensor.shape.size() == 2, "{}: tensor {} is F8_E4M3 but no matrix", path_.string(), tensor.name);
  const auto [block_rows, block_cols] = fp8_block_;
  const std::vector<int64_t> wanted = {(tensor.shape[0] + block_rows - 1) / block_rows,
                                       (tensor.shape[1] + block_cols - 1) / block_cols};
  if (scales.shape != wanted) bad_shape();
  require(spec::info(scales.type).is_weight && !spec::info(scales.type).has_scales, "{}: tensor {} is {}, expected floats",
          path_.string(), scales.name, spec::name(scales.type));
  const auto known = float_scales_.find(scales.name);
  if (known != float_scales_.end()) return known->second;

  const std::byte* data = scales.bytes.data();
  const bool aligned = reinterpret_cast<uintptr_t>(data) % alignof(float) == 0;
  if (scales.type != spec::ElementType::F32 || !aligned) {
    const std::vector<float> floats = to_floats(scales);
    std::vector<std::byte>& bytes = owned_.emplace_back(floats.size() * sizeof(float));
    std::memcpy(bytes.data(), floats.data(), bytes.size());
    data = bytes.data();
  }
  const spec::Scales grid{data, static_cast<size_t>(wanted[1]) * sizeof(float), static_cast<size_t>(block_rows),
                          static_cast<size_t>(block_cols)};
  return float_scales_[scales.name] = grid;
}

TensorView ModelFile::weight(const Weight& weight) const {
  const auto known = cut_.find({weight.role, weight.layer, weight.expert});
  if (known != cut_.end()) return known->second;
  const size_t owned = owned_.size();
  TensorView cut = this->weight(weight, owned_);
  if (owned_.size() > owned) cut_[{weight.role, weight.layer, weight.expert}] = cut;
  return cut;
}

TensorView ModelFile::weight(const Weight& weight, OwnedBytes& owned) const {
  require(!packed_ || !spec::is_expert_matrix(weight.role),
          "{}: its experts are packed and can only be computed with in fast arithmetic; use the file that it was packed from", path_.string());
  Stored stored = find(weight);
  if (stored.is_stack) {
    assert(weight.expert >= 0);
    TensorView& tensor = stored.tensor;
    const size_t experts = static_cast<size_t>(tensor.shape[0]), expert = static_cast<size_t>(weight.expert);
    const size_t bytes = tensor.bytes.size() / experts;
    tensor.bytes = tensor.bytes.subspan(bytes * expert, bytes);
    tensor.shape.erase(tensor.shape.begin());
    if (tensor.scales.data != nullptr) {
      tensor.scales.data += expert * static_cast<size_t>(tensor.shape[0]) * tensor.scales.row_stride;
    }
  }
  return cut_weight(spec_, weight.role, stored.layout, stored.tensor, owned);
}

spec::ElementType ModelFile::type_of(const Weight& weight) const {
  for (const PackedCopy copy : {PackedCopy::First, PackedCopy::Upper}) {
    if (const auto slab = packed_expert(weight, copy)) return whole_type(slab->type);
  }
  const Stored stored = find(weight);
  return type_when_cut(stored.layout, stored.tensor.type);
}

std::optional<PackedSlab> ModelFile::packed_expert(const Weight& weight, PackedCopy copy) const {
  if (!packed_ || !spec::is_expert_matrix(weight.role) || !packed_->has(copy)) return std::nullopt;
  return packed_->slab(weight, copy);
}

void ModelFile::check_weights() const {
  // Expert by expert without a list of them all: a config that lies about their number ends at the first that is missing.
  for (const Weight& w : spec::weights_of(spec_, false)) {
    if (packed_ && spec::is_expert_matrix(w.role)) continue;
    const int experts = spec::experts_with(spec_, w.layer, w.role);
    if (experts == 0) find(w);
    for (int expert = 0; expert < experts; ++expert) find({w.role, w.layer, expert});
  }
}

std::optional<ModelFile::Place> ModelFile::place_of(const std::byte* bytes) const {
  const auto place_in = [&](size_t number, const MappedFile& map) -> std::optional<Place> {
    if (!map.holds(bytes)) return std::nullopt;
    return Place{number, static_cast<uint64_t>(bytes - map.bytes().data())};
  };
  if (gguf_) {
    for (size_t i = 0; i < gguf_->maps().size(); ++i) {
      if (const auto place = place_in(i, gguf_->maps()[i])) return place;
    }
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (const auto place = place_in(i, shards_[i].map())) return place;
  }
  return std::nullopt;
}

void ModelFile::done_with(std::span<const std::byte> bytes) const {
  if (gguf_) gguf_->done_with(bytes);
  for (const SafetensorsFile& shard : shards_) shard.done_with(bytes);
}

}  // namespace moiety::format
