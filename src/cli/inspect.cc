// moiety inspect: what is in a model, checkpoint, GGUF, safetensors or tokenizer file.
#include <algorithm>
#include <map>
#include <memory>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/describe_model.h"
#include "cli/open_chat_template.h"
#include "cli/open_tokenizer.h"
#include "cli/routing_chart.h"
#include "format/model_file.h"
#include "format/model_path.h"
#include "format/tensor_groups.h"

namespace moiety::cli {
namespace {

using format::TensorView;

constexpr const char* kHelp =
    "Show what is in a file: a model of any kind, a GGUF or safetensors file, a tokenizer's file.\n\n"
    "examples:\n"
    "  moiety inspect model.gguf\n"
    "  moiety inspect quick/run --json";

constexpr size_t kShownList = 8, kShownText = 100;

struct File {
  fs::path path;
  std::string kind;
  size_t tensors = 0;
  size_t bytes = 0;
};

// Everything that is known of what was named. The parts that are not there are empty.
struct Contents {
  fs::path path;
  std::optional<spec::ModelSpec> spec;
  std::string not_a_model;  // why it can't be run
  std::vector<File> files;
  std::optional<format::GgufMetadata> gguf_metadata;
  std::map<std::string, std::string> safetensors_metadata;
  std::vector<TensorView> tensors;
  std::string tokenizer, chat_template;  // in a line

  // What the tensors look into.
  std::unique_ptr<format::ModelFile> model;
  std::unique_ptr<format::GgufFile> gguf;
  std::vector<format::SafetensorsFile> safetensors;
};

// Reading

void read_gguf(const fs::path& path, Contents& contents) {
  contents.gguf = std::make_unique<format::GgufFile>(path);
  for (const auto& part : contents.gguf->parts()) {
    contents.files.push_back({part.path, fmt::format("GGUF v{}", part.version), part.tensors, part.bytes});
  }
  contents.gguf_metadata = contents.gguf->metadata();
  contents.tensors = contents.gguf->tensors();
}

void read_safetensors(const fs::path& path, Contents& contents) {
  const auto& file = contents.safetensors.emplace_back(path);
  contents.files.push_back({path, "safetensors", file.tensors().size(), fs::file_size(path)});
  contents.safetensors_metadata.insert(file.metadata().begin(), file.metadata().end());
  contents.tensors.insert(contents.tensors.end(), file.tensors().begin(), file.tensors().end());
}

// The files that a model is made of, or of a folder that is no model we know all that hold tensors.
std::vector<fs::path> safetensors_of(const fs::path& folder, const format::ModelFile* model) {
  if (model != nullptr) return model->files();
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void read_model(Contents& contents) {
  try {
    contents.model = std::make_unique<format::ModelFile>(contents.path);
    contents.spec = contents.model->spec();
  } catch (const Error& error) {
    contents.not_a_model = error.what();
  }
}

std::string text_of(const spec::TokenizerSpec& spec) {
  std::string text = fmt::format("{}, {} tokens, {} added tokens", spec::describe(spec), spec.tokens.size(), spec.added.size());
  if (!spec.merges.empty()) text += fmt::format(", {} merges", spec.merges.size());
  return text;
}

std::string tokenizer_line(const fs::path& path) {
  try {
    const auto tokenizer = find_tokenizer(path);
    if (!tokenizer) return "none";
    return text_of(tokenizer->spec());
  } catch (const Error& error) {
    return error.what();
  }
}

std::string chat_template_line(const fs::path& path) {
  try {
    const ChatTemplateFiles files = find_chat_template(path);
    std::string line;
    for (const auto& [name, text] : files.sources) {
      line += fmt::format("{}{}, {} bytes of Jinja", line.empty() ? "" : "; ", name, text.size());
    }
    return line.empty() ? "none" : line;
  } catch (const Error& error) {
    return error.what();
  }
}

Contents read(const fs::path& path) {
  Contents contents;
  contents.path = path;
  if (path.extension() == ".safetensors") {
    read_safetensors(path, contents);
    return contents;
  }
  if (!fs::is_directory(path)) read_gguf(path, contents);
  read_model(contents);
  if (fs::is_directory(path)) {
    for (const fs::path& file : safetensors_of(path, contents.model.get())) read_safetensors(file, contents);
    require(contents.spec.has_value() || !contents.files.empty(), "{}", contents.not_a_model);
  }
  contents.tokenizer = tokenizer_line(path);
  contents.chat_template = chat_template_line(path);
  return contents;
}

// JSON

Json json_of(const format::GgufValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, format::GgufNestedList>) {
          return fmt::format("{} lists", v.count);
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

std::map<std::string_view, size_t> bytes_by_type(const std::vector<TensorView>& tensors) {
  std::map<std::string_view, size_t> bytes;
  for (const TensorView& t : tensors) bytes[spec::name(t.type)] += t.bytes.size();
  return bytes;
}

// Of a packed file, the bytes of its experts, or of their second copies, by what they hold; empty: there are none.
std::map<std::string_view, size_t> packed_bytes_by_type(const format::ModelFile* model, bool second_copies) {
  std::map<std::string_view, size_t> bytes;
  if (model == nullptr || model->packed() == nullptr) return bytes;
  for (const format::PackedCopy copy : format::kPackedCopies) {
    if ((copy == format::PackedCopy::Low) != second_copies) continue;
    for (const spec::Weight& weight : spec::weights_of(model->spec(), true)) {
      if (const auto slab = model->packed_expert(weight, copy)) bytes[spec::name(slab->type)] += slab->bytes.size();
    }
  }
  return bytes;
}

Json json_of(const Contents& contents) {
  Json out = {{"path", contents.path.string()}, {"files", Json::array()}};
  for (const File& file : contents.files) {
    out["files"].push_back({{"path", file.path.string()}, {"kind", file.kind}, {"tensors", file.tensors}, {"bytes", file.bytes}});
  }
  if (contents.spec) {
    out["family"] = contents.spec->family;
    out["parameters"] = contents.spec->parameters();
    out["active_parameters"] = contents.spec->active_parameters();
    out["spec"] = spec::to_json(*contents.spec);
  }
  if (!contents.not_a_model.empty()) out["cannot_run"] = contents.not_a_model;
  if (!contents.tokenizer.empty()) out["tokenizer"] = contents.tokenizer;
  if (!contents.chat_template.empty()) out["chat_template"] = contents.chat_template;
  if (contents.gguf_metadata) {
    Json metadata = Json::object();
    for (const std::string& key : contents.gguf_metadata->keys()) metadata[key] = json_of(contents.gguf_metadata->value(key));
    out["metadata"] = std::move(metadata);
  } else if (!contents.safetensors_metadata.empty()) {
    out["metadata"] = contents.safetensors_metadata;
  }
  out["bytes_by_type"] = bytes_by_type(contents.tensors);
  for (const auto& [key, second_copies] : {std::pair{"packed_experts", false}, {"low_experts", true}}) {
    if (const auto bytes = packed_bytes_by_type(contents.model.get(), second_copies); !bytes.empty()) out[key] = bytes;
  }
  out["tensors"] = json_of(contents.tensors);
  return out;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Text

std::string bytes_text(size_t bytes) {
  return bytes < 1000 ? fmt::format("{} B", bytes) : short_number(static_cast<double>(bytes)) + "B";
}

// At most so many bytes, not cut within a character.
std::string shortened(std::string text, size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
  return text.substr(0, most) + "…";
}

std::string text_of(const Json& value) {
  if (value.is_number_float()) return fmt::format("{:.7g}", value.get<double>());
  if (value.is_array()) {
    std::string list;
    for (size_t i = 0; i < std::min(value.size(), kShownList); ++i) list += (i > 0 ? ", " : "") + text_of(value[i]);
    return value.size() > kShownList ? fmt::format("{} values: {}, …", value.size(), list) : "[" + list + "]";
  }
  return dump(value);
}

void print_spec(const spec::ModelSpec& s) {
  fmt::print("{}: {} parameters, {} active a token\n", s.family, short_number(static_cast<double>(s.parameters())),
             short_number(static_cast<double>(s.active_parameters())));
  for (const auto& [part, description] : describe(s)) fmt::print("  {:<16} {}\n", part, description);
}

void print_files(const std::vector<File>& files) {
  for (const File& file : files) {
    fmt::print("  {:<44} {:<12} {:>6} tensors {:>10}\n", file.path.filename().string(), file.kind, file.tensors,
               bytes_text(file.bytes));
  }
}

void print_metadata(const Contents& contents) {
  if (contents.gguf_metadata) {
    fmt::print("\nmetadata\n");
    for (const std::string& key : contents.gguf_metadata->keys()) {
      fmt::print("  {:<44} {}\n", key, shortened(text_of(json_of(contents.gguf_metadata->value(key))), kShownText));
    }
  } else if (!contents.safetensors_metadata.empty()) {
    fmt::print("\nmetadata\n");
    for (const auto& [key, value] : contents.safetensors_metadata) {
      fmt::print("  {:<44} {}\n", key, shortened(dump(value), kShownText));
    }
  }
}

void print_row(std::string_view name, size_t count, spec::ElementType type, const std::vector<int64_t>& shape, size_t bytes) {
  fmt::print("  {:<66} {:>6} {:<12} {:>20} {:>10}\n", name, count == 1 ? "" : fmt::format("{} x", count), spec::name(type),
             format::shape_text(shape), bytes_text(bytes));
}

// A sum over types, and its parts.
std::string total_text(const std::map<std::string_view, size_t>& bytes_of_types) {
  size_t total = 0;
  std::string parts;
  for (const auto& [type, bytes] : bytes_of_types) {
    total += bytes;
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", type, bytes_text(bytes));
  }
  return fmt::format("{}: {}", bytes_text(total), parts);
}

void print_packed(const format::ModelFile* model) {
  for (const auto& [title, second_copies] : {std::pair{"packed", false}, {"second copy", true}}) {
    const auto bytes = packed_bytes_by_type(model, second_copies);
    if (!bytes.empty()) fmt::print("  {:<16} experts of {}\n", title, total_text(bytes));
  }
}

void print_tensors(const std::vector<TensorView>& tensors, bool each) {
  fmt::print("\n{} tensors\n", tensors.size());
  if (each) {
    for (const TensorView& t : tensors) print_row(t.name, 1, t.type, t.shape, t.bytes.size());
  } else {
    for (const auto& group : format::group_tensors(tensors)) {
      print_row(group.name, group.count, group.type, group.shape, group.bytes);
    }
  }
  fmt::print("  total {}\n", total_text(bytes_by_type(tensors)));
}

void print(const Contents& contents, bool each_tensor) {
  fmt::print("{}\n", contents.path.string());
  print_files(contents.files);
  if (contents.spec || !contents.not_a_model.empty()) fmt::print("\n");
  if (contents.spec) print_spec(*contents.spec);
  if (!contents.not_a_model.empty()) fmt::print("not a model that can be run: {}\n", contents.not_a_model);
  if (!contents.tokenizer.empty()) fmt::print("  {:<16} {}\n", "tokenizer", contents.tokenizer);
  if (!contents.chat_template.empty()) fmt::print("  {:<16} {}\n", "chat template", contents.chat_template);
  print_packed(contents.model.get());
  print_metadata(contents);
  print_tensors(contents.tensors, each_tensor);
}

int inspect_tokenizer(const fs::path& path, bool json) {
  const text::Tokenizer tokenizer = open_tokenizer(path);
  const spec::TokenizerSpec& t = tokenizer.spec();
  if (json) {
    fmt::print("{}\n", dump({{"path", path.string()},
                             {"kind", spec::describe(t)},
                             {"tokens", t.tokens.size()},
                             {"merges", t.merges.size()},
                             {"added", t.added.size()}}));
    return 0;
  }
  fmt::print("{}: {}\n", path.string(), text_of(t));
  for (const spec::AddedToken& token : t.added) {
    fmt::print("  {:>8} {}{}\n", token.id, token.content, token.special ? "  (special)" : "");
  }
  return 0;
}

}  // namespace

int inspect(int argc, char** argv) {
  std::string name, routing_chart;
  bool json = false, each_tensor = false;
  CLI::App app(kHelp, "moiety inspect");
  app.add_option("FILE", name, "a model, a GGUF or safetensors file, a tokenizer.json or tokenizer.model")->required();
  app.add_flag("--tensors", each_tensor, "a line for every tensor, instead of one for those that are alike");
  app.add_flag("--json", json, "one JSON object, with everything in full");
  app.add_option("--routing", routing_chart, "of a training run: draw how its routing developed, as SVG");
  if (const auto status = parse(app, argc, argv)) return *status;

  if (!routing_chart.empty()) {
    const fs::path metrics = fs::path(name) / "metrics.jsonl";
    write_file(routing_chart, draw_routing_chart("Routing of " + name, read_file(metrics)));
  }
  const fs::path path = format::resolve_model_path(name);
  if (path.extension() == ".json" || path.extension() == ".model") return inspect_tokenizer(path, json);
  const Contents contents = read(path);
  if (json) {
    fmt::print("{}\n", dump(json_of(contents)));
  } else {
    print(contents, each_tensor);
  }
  return 0;
}

}  // namespace moiety::cli
