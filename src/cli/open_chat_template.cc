#include "cli/open_chat_template.h"

#include "base/json.h"
#include "format/model_path.h"

namespace moiety::cli {
namespace {

constexpr size_t kLongest = 4 << 20;  // bytes of a template that is believed

std::string read_template(const fs::path& path) {
  const MappedFile file(path);
  require(file.bytes().size() <= kLongest, "{}: a chat template of {} bytes", path.string(), file.bytes().size());
  return std::string(file.text());
}

// "<s>" or {"content": "<s>", …}.
void add_token(const JsonObject& config, const char* key, ChatTemplateFiles& files) {
  if (!config.has(key)) return;
  const Json& token = config.at(key);
  if (token.is_string()) files.tokens[key] = token.get<std::string>();
  if (token.is_object()) files.tokens[key] = config.object(key).text("content");
}

// A string, or a list of {"name": …, "template": …}.
void add_sources(const JsonObject& config, ChatTemplateFiles& files) {
  if (!config.has("chat_template")) return;
  const Json& value = config.at("chat_template");
  if (value.is_string()) {
    files.sources["default"] = value.get<std::string>();
    return;
  }
  for (const Json& row : config.array("chat_template")) {
    const JsonObject named(row, config.where() + ": chat_template");
    files.sources[named.text("name")] = named.text("template");
  }
}

void add_extra_files(const fs::path& folder, ChatTemplateFiles& files) {
  if (!fs::is_directory(folder)) return;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".jinja") files.sources[entry.path().stem().string()] = read_template(entry.path());
  }
}

}  // namespace

ChatTemplateFiles chat_template_of_folder(const fs::path& folder) {
  ChatTemplateFiles files;
  const fs::path config_path = folder / "tokenizer_config.json";
  files.where = config_path.string();
  if (fs::exists(config_path)) {
    const Json json = parse_json(read_file(config_path), config_path.string());
    const JsonObject config(json, config_path.string());
    for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"}) {
      add_token(config, key, files);
    }
    add_sources(config, files);
  }
  const fs::path file = folder / "chat_template.jinja";
  if (fs::exists(file)) {
    files.sources.clear();
    files.sources["default"] = read_template(file);
    files.where = file.string();
    add_extra_files(folder / "additional_chat_templates", files);
  }
  return files;
}

ChatTemplateFiles chat_template_of_gguf(const format::GgufMetadata& metadata) {
  ChatTemplateFiles files;
  files.where = metadata.where + ": tokenizer.chat_template";
  static const std::string kKey = "tokenizer.chat_template";
  for (const std::string& key : metadata.keys()) {
    if (key == kKey) files.sources["default"] = metadata.text(key);
    if (key.starts_with(kKey + ".")) files.sources[key.substr(kKey.size() + 1)] = metadata.text(key);
  }
  if (!metadata.has("tokenizer.ggml.tokens")) return files;
  const auto& tokens = metadata.texts("tokenizer.ggml.tokens");
  for (const char* name : {"bos", "eos", "unknown", "padding"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (!metadata.has(key)) continue;
    const int64_t id = metadata.integer(key);
    if (id < 0 || id >= static_cast<int64_t>(tokens.size())) continue;
    const std::string_view kind(name);
    const char* variable = kind == "unknown" ? "unk_token" : kind == "padding" ? "pad_token" : kind == "bos" ? "bos_token" : "eos_token";
    files.tokens[variable] = tokens[static_cast<size_t>(id)];
  }
  return files;
}

ChatTemplateFiles find_chat_template(const fs::path& model) {
  // A folder with only a tokenizer in it is enough for a template.
  const bool has_own = fs::exists(model / "tokenizer_config.json") || fs::exists(model / "chat_template.jinja");
  if (fs::is_directory(model) && has_own) return chat_template_of_folder(model);
  const fs::path path = format::resolve_model_path(model);
  if (fs::is_directory(path)) return chat_template_of_folder(path);
  return chat_template_of_gguf(format::GgufFile(path).metadata());
}

text::ChatTemplate open_chat_template(const fs::path& model) {
  ChatTemplateFiles files = find_chat_template(model);
  require(!files.sources.empty(),
          "{}: the model comes without a chat template; moiety generate continues a text as it stands", model.string());
  return text::ChatTemplate(files.sources, std::move(files.tokens), files.where);
}

}  // namespace moiety::cli
