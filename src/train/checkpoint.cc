#include "train/checkpoint.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "format/safetensors.h"

namespace moiety::train {
namespace {

constexpr const char* kPrefix = "step-";
constexpr const char* kState = "state.json";

std::string hash_of(const fs::path& path) {
  const MappedFile file(path);
  return fmt::format("{:016x}", XXH64(file.bytes().data(), file.bytes().size(), 0));
}

// Newest first. Folders that a killed run left half written begin with a dot and are never looked at.
std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with(kPrefix)) found.push_back(entry.path());
  }
  std::ranges::sort(found, std::greater<>());
  return found;
}

// Of all that is said beside it.
std::string hash_of(Json state) {
  state.erase("hash");
  const std::string text = state.dump();
  return fmt::format("{:016x}", XXH64(text.data(), text.size(), 0));
}

bool is_whole(const fs::path& checkpoint) {
  try {
    const fs::path path = checkpoint / kState;
    const Json json = parse_json(read_file(path), path.string());
    if (!json.is_object() || json.value("hash", Json()) != hash_of(json)) return false;
    const JsonObject files = JsonObject(json, path.string()).object("files");
    for (const auto& [name, hash] : files.json().items()) {
      if (!hash.is_string() || hash_of(checkpoint / fs::path(name).filename()) != hash.get<std::string>()) return false;
    }
    return !files.json().empty();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Json to_json(const RunState& state) {
  return {{"step", state.step}, {"steps", state.steps}, {"tokens", state.tokens}, {"domains", state.domains}, {"usual", state.usual}, {"routers", state.routers}};
}

RunState run_state_from(const Json& json, const std::string& where) {
  const JsonObject object(json, where);
  return {object.integer("step", 0, INT64_MAX), object.integer("steps", 0, INT64_MAX), object.integer("tokens", 0, INT64_MAX), object.array("domains"),
          object.json().value("usual", Json()), object.json().value("routers", Json())};
}

std::vector<TensorPart> state_tensors(const Weights& weights, Optimizer& optimizer) {
  std::vector<TensorPart> state = weights.tensors();
  std::ranges::move(optimizer.state_tensors(), std::back_inserter(state));
  return state;
}

fs::path checkpoint_path(const fs::path& folder, int64_t step) { return folder / fmt::format("{}{:08}", kPrefix, step); }

void seal_checkpoint(AtomicFolder& folder, const CheckpointFiles& files, const spec::ModelSpec& spec, Json state) {
  const fs::path& path = folder.path();
  write_file(path / "config.json", spec::to_json(spec).dump(2) + "\n");
  write_file(path / "generation_config.json", Json{{"eos_token_id", spec.eos_tokens}}.dump(2) + "\n");
  if (fs::exists(files.tokenizer)) write_file(path / "tokenizer.json", read_file(files.tokenizer));

  Json hashes = Json::object();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  for (const std::string& name : names) hashes[name] = hash_of(path / name);
  state["files"] = hashes;
  state["hash"] = hash_of(state);
  write_file(path / kState, state.dump(2) + "\n");
  folder.commit();
}

std::optional<fs::path> newest_checkpoint(const fs::path& folder) {
  for (const fs::path& checkpoint : checkpoints_in(folder)) {
    if (is_whole(checkpoint)) return checkpoint;
  }
  return std::nullopt;
}

std::chrono::steady_clock::time_point last_sealed(const fs::path& folder) {
  const std::vector<fs::path> found = checkpoints_in(folder);
  std::error_code error;
  const auto written = found.empty() ? fs::file_time_type() : fs::last_write_time(found.front() / kState, error);
  if (found.empty() || error) return {};
  return std::chrono::steady_clock::now() - (fs::file_time_type::clock::now() - written);
}

std::optional<fs::path> checkpoint_before(const fs::path& folder, int64_t step) {
  const fs::path last = checkpoint_path(folder, std::max<int64_t>(0, step));
  std::optional<fs::path> oldest;
  for (const fs::path& checkpoint : checkpoints_in(folder)) {
    if (!is_whole(checkpoint)) continue;
    oldest = checkpoint;
    if (checkpoint <= last) break;
  }
  return oldest;
}

RunState read_checkpoint(const fs::path& checkpoint, const spec::ModelSpec& spec, Weights& weights,
                         Optimizer& optimizer) {
  const fs::path config = checkpoint / "config.json", state = checkpoint / kState,
                 tensors = checkpoint / "model.safetensors", moments = checkpoint / "optimizer.safetensors";
  const Json found = parse_json(read_file(config), config.string());
  require(found == spec::to_json(spec),
          "{}: the checkpoint's model is not the one of the configuration; choose another run.dir", config.string());
  weights.read(format::SafetensorsFile(tensors).tensors(), tensors.string(), weights.values());
  optimizer.read_state(format::SafetensorsFile(moments).tensors(), moments.string());

  const RunState found_state = run_state_from(parse_json(read_file(state), state.string()), state.string());
  require(found_state.steps > 0, "{}: steps is {}, and a run that is written has one at least", state.string(), found_state.steps);
  return found_state;
}

void remove_old_checkpoints(const fs::path& folder, int64_t keep) {
  std::error_code ignored;
  const std::vector<fs::path> found = checkpoints_in(folder);
  for (size_t i = static_cast<size_t>(keep); i < found.size(); ++i) fs::remove_all(found[i], ignored);
  // What killed runs left half written.
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().starts_with('.')) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace moiety::train
