// moiety inspect: what is in a model, checkpoint, GGUF, safetensors or tokenizer file.
#include <map>

#include "base/json.h"
#include "base/progress.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "format/model_file.h"
#include "format/model_path.h"
#include "format/tokenizer_json.h"

namespace moiety::cli {
namespace {

using format::TensorView;

constexpr const char* kHelp =
    "Show what is in a file: a model of any kind, a GGUF or safetensors file, a tokenizer.json.\n\n"
    "examples:\n"
    "  moiety inspect model.gguf\n"
    "  moiety inspect quick/run --json";

constexpr size_t kShownList = 8;

Json shown(const format::GgufValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (requires { v.size(); } && !std::is_same_v<std::decay_t<decltype(v)>, std::string>) {
          Json list = Json::array();
          for (size_t i = 0; i < std::min(v.size(), kShownList); ++i) list.push_back(v[i]);
          if (v.size() > kShownList) list.push_back(fmt::format("… {} in all", v.size()));
          return list;
        } else {
          return v;
        }
      },
      value);
}

Json json_of(const std::vector<TensorView>& tensors) {
  Json list = Json::array();
  for (const TensorView& t : tensors) {
    list.push_back({{"name", t.name}, {"type", spec::name(t.type)}, {"shape", t.shape}, {"bytes", t.bytes.size()}});
  }
  return list;
}

Json json_of(const format::GgufMetadata& metadata) {
  Json json = Json::object();
  for (const std::string& key : metadata.keys()) json[key] = shown(metadata.value(key));
  return json;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

void print_spec(const format::ModelFile& model) {
  const spec::ModelSpec& s = model.spec();
  fmt::print("{}: {}, {} parameters, {} active a token\n", model.path().string(), s.family,
             short_number(static_cast<double>(s.parameters())), short_number(static_cast<double>(s.active_parameters())));
  const Json json = spec::to_json(s);
  for (const auto& [key, value] : json.items()) {
    if (key != "model_type" && key != "feed_forward") fmt::print("  {:<16} {}\n", key, dump(value));
  }
  fmt::print("  {:<16} {} of {}\n", "sparse layers", s.moe_layers(), s.num_layers);
}

void print_metadata(const format::GgufMetadata& metadata) {
  fmt::print("\nmetadata\n");
  for (const std::string& key : metadata.keys()) {
    std::string value = dump(shown(metadata.value(key)));
    if (value.size() > 120) value = value.substr(0, 117) + "…";
    fmt::print("  {:<44} {}\n", key, value);
  }
}

void print_tensors(const std::vector<TensorView>& tensors) {
  std::map<std::string_view, size_t> bytes_by_type;
  size_t bytes = 0;
  fmt::print("\n{} tensors\n", tensors.size());
  for (const TensorView& t : tensors) {
    std::string shape;
    for (const int64_t size : t.shape) shape += fmt::format("{}{}", shape.empty() ? "" : " x ", size);
    fmt::print("  {:<56} {:<5} {:>20} {:>10}B\n", t.name, spec::name(t.type), shape,
               short_number(static_cast<double>(t.bytes.size())));
    bytes_by_type[spec::name(t.type)] += t.bytes.size();
    bytes += t.bytes.size();
  }
  fmt::print("  total {}B:", short_number(static_cast<double>(bytes)));
  for (const auto& [type, part] : bytes_by_type) fmt::print(" {} {}B", type, short_number(static_cast<double>(part)));
  fmt::print("\n");
}

int inspect_model(const fs::path& path, bool json) {
  const format::ModelFile model(path);
  if (json) {
    Json out = {{"path", model.path().string()},
                {"family", model.spec().family},
                {"parameters", model.spec().parameters()},
                {"active_parameters", model.spec().active_parameters()},
                {"spec", spec::to_json(model.spec())},
                {"tensors", json_of(model.tensors())}};
    if (model.gguf() != nullptr) out["metadata"] = json_of(model.gguf()->metadata());
    fmt::print("{}\n", dump(out));
    return 0;
  }
  print_spec(model);
  if (model.gguf() != nullptr) print_metadata(model.gguf()->metadata());
  print_tensors(model.tensors());
  return 0;
}

// A GGUF file need not hold a model that we know to be looked at.
int inspect_gguf(const fs::path& path, bool json) {
  const format::GgufFile file(path);
  if (json) {
    fmt::print("{}\n", dump({{"path", path.string()}, {"metadata", json_of(file.metadata())}, {"tensors", json_of(file.tensors())}}));
    return 0;
  }
  fmt::print("{}: GGUF\n", path.string());
  print_metadata(file.metadata());
  print_tensors(file.tensors());
  return 0;
}

int inspect_safetensors(const fs::path& path, bool json) {
  const format::SafetensorsFile file(path);
  if (json) {
    fmt::print("{}\n", dump({{"path", path.string()}, {"metadata", file.metadata()}, {"tensors", json_of(file.tensors())}}));
    return 0;
  }
  fmt::print("{}: safetensors\n", path.string());
  for (const auto& [key, value] : file.metadata()) fmt::print("  {:<20} {}\n", key, value);
  print_tensors(file.tensors());
  return 0;
}

int inspect_tokenizer(const fs::path& path, bool json) {
  const spec::TokenizerSpec t = format::read_tokenizer_json(read_file(path), path.string());
  if (json) {
    fmt::print("{}\n", dump({{"path", path.string()}, {"tokens", t.tokens.size()}, {"merges", t.merges.size()}, {"added", t.added.size()}}));
    return 0;
  }
  fmt::print("{}: byte-level BPE, {} tokens, {} merges, {} added tokens\n", path.string(), t.tokens.size(), t.merges.size(),
             t.added.size());
  for (const spec::AddedToken& token : t.added) {
    fmt::print("  {:>8} {}{}\n", token.id, token.content, token.special ? "  (special)" : "");
  }
  return 0;
}

bool is_known_gguf(const fs::path& path) {
  const format::GgufFile file(path);
  if (!file.metadata().has("general.architecture")) return false;
  for (const format::Family& family : format::families()) {
    if (file.metadata().text("general.architecture") == family.gguf_architecture) return true;
  }
  return false;
}

}  // namespace

int inspect(int argc, char** argv) {
  std::string name;
  bool json = false;
  CLI::App app(kHelp, "moiety inspect");
  app.add_option("FILE", name, "a model, a GGUF or safetensors file, a tokenizer.json")->required();
  app.add_flag("--json", json, "one JSON object");
  if (const auto status = parse(app, argc, argv)) return *status;

  const fs::path path = format::resolve_model_path(name);
  if (fs::is_directory(path)) return inspect_model(path, json);
  if (path.extension() == ".safetensors") return inspect_safetensors(path, json);
  if (path.extension() == ".json") return inspect_tokenizer(path, json);
  return is_known_gguf(path) ? inspect_model(path, json) : inspect_gguf(path, json);
}

}  // namespace moiety::cli
