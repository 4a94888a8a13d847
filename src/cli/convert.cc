// moiety convert: a checkpoint, Hugging Face folder or GGUF file into a Hugging Face folder or GGUF file.
#include "format/convert.h"

#include <algorithm>

#include "base/json.h"
#include "base/say.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/gguf_metadata.h"
#include "cli/open_chat_template.h"
#include "cli/open_tokenizer.h"
#include "format/elements.h"
#include "format/hf_config.h"
#include "format/tokenizer_json.h"

namespace moiety::cli {
namespace {

using format::Family;
using format::ModelFile;
using spec::ElementType;

constexpr const char* kHelp =
    "Convert a model. OUT ending in .gguf becomes a GGUF file that llama.cpp loads, anything else a Hugging Face folder.\n"
    "A model trained here is written as the closest standard architecture that computes exactly the same.\n\n"
    "examples:\n"
    "  moiety convert quick/run quick/model\n"
    "  moiety convert quick/run quick/model.gguf --type q8_0";

std::optional<ElementType> parse_type(const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  const auto type = spec::from_name(upper);
  if (!type || !format::can_write(*type)) {
    fail(ErrorKind::Usage, "--type {}: expected one of {}{}", name, format::writable_type_names(),
         type ? "; moiety reads this type and does not write it" : "");
  }
  return type;
}

// The chat templates of the model in the form of tokenizer_config.json: one, or a list with names; null if there is none.
Json chat_templates_json(const fs::path& model) {
  const auto sources = find_chat_template(model).sources;
  if (sources.empty()) return nullptr;
  if (sources.size() == 1 && sources.contains("default")) return sources.at("default");
  Json list = Json::array();
  for (const auto& [name, source] : sources) list.push_back({{"name", name}, {"template", source}});
  return list;
}

std::string token_text(const text::Tokenizer& tokenizer, int id) {
  return id >= 0 && id < tokenizer.vocab_size() ? std::string(tokenizer.token_bytes(id)) : "";
}

void write_hf_tokenizer(const ModelFile& model, const text::Tokenizer& tokenizer, const fs::path& folder) {
  write_file(folder / "tokenizer.json", format::write_tokenizer_json(tokenizer.spec()));
  const spec::ModelSpec& spec = model.spec();
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  if (const auto bos = token_text(tokenizer, spec.bos_token); !bos.empty()) config["bos_token"] = bos;
  if (!spec.eos_tokens.empty()) config["eos_token"] = token_text(tokenizer, spec.eos_tokens[0]);
  if (Json chat = chat_templates_json(model.path()); !chat.is_null()) config["chat_template"] = std::move(chat);
  write_file(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

void write_hf(const ModelFile& model, const Family& family, std::optional<ElementType> type, const fs::path& out) {
  AtomicFolder folder(out);
  const auto tensors = format::hf_tensors(model, family, type);
  format::write_safetensors(folder.path() / "model.safetensors", tensors, {{"format", "pt"}});
  const ElementType main = type.value_or(format::main_type(model, false));
  write_file(folder.path() / "config.json", format::hf_config(model.spec(), family, main).dump(2) + "\n");
  write_file(folder.path() / "generation_config.json", format::hf_generation_config(model.spec()).dump(2) + "\n");
  if (const auto tokenizer = find_tokenizer(model.path())) write_hf_tokenizer(model, *tokenizer, folder.path());
  folder.commit();
}

void write_gguf(const ModelFile& model, const Family& family, std::optional<ElementType> type, const fs::path& out) {
  const auto metadata = gguf_metadata(model, family, type.value_or(format::main_type(model, true)), out);
  format::write_gguf(out, metadata, format::gguf_tensors(model, family, type));
}

}  // namespace

int convert(int argc, char** argv) {
  std::string in, out, type_name;
  bool json = false;
  CLI::App app(kHelp, "moiety convert");
  app.add_option("IN", in, "a checkpoint or training run, a Hugging Face folder, a GGUF file")->required();
  app.add_option("OUT", out, "a .gguf file or a folder to write")->required();
  app.add_option("--type", type_name, "matrices as f32, f16, bf16 or, GGUF only, a type in blocks (moiety quantize does it better); default: as they are");
  app.add_flag("--json", json, "say what was written as JSON");
  if (const auto status = parse(app, argc, argv)) return *status;
  const auto type = parse_type(type_name);
  const bool to_gguf = fs::path(out).extension() == ".gguf";
  if (!to_gguf && type && spec::info(*type).safetensors_name.empty()) {
    fail(ErrorKind::Usage, "--type {}: Hugging Face folders hold f32, f16 or bf16; name OUT something.gguf", type_name);
  }

  const ModelFile model(in);
  require(!fs::exists(out) || !fs::equivalent(out, model.path()), "{}: IN and OUT are the same", out);
  const Family& family = format::closest_family(model.spec(), to_gguf ? format::FileKind::Gguf : format::FileKind::HuggingFace);
  if (to_gguf) {
    write_gguf(model, family, type, out);
  } else {
    write_hf(model, family, type, out);
  }
  if (to_gguf && format::features_of(model.spec()).has(format::Feature::YarnUntruncated)) {
    say("convert: this model's yarn is not truncated, llama.cpp's always is: its numbers will differ slightly\n");
  }
  const char* architecture = to_gguf ? family.gguf.architecture : family.hf.architecture;
  if (json) {
    fmt::print("{}\n", Json{{"out", out}, {"architecture", architecture}}.dump());
  } else {
    fmt::print("{}: {}, {} parameters\n", out, architecture, model.spec().parameters());
  }
  return 0;
}

}  // namespace moiety::cli
