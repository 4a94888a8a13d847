#include "cli/open_tokenizer.h"

#include "base/error.h"
#include "format/gguf_tokenizer.h"
#include "format/model_path.h"
#include "format/sentencepiece.h"
#include "format/tokenizer_json.h"

namespace moiety::cli {
namespace {

text::Tokenizer open_json(const fs::path& path) {
  const MappedFile file(path);
  return text::Tokenizer(format::read_tokenizer_json(file.text(), path.string()));
}

text::Tokenizer open_sentencepiece(const fs::path& path) {
  const MappedFile file(path);
  spec::TokenizerSpec spec = format::read_sentencepiece(file.text(), path.string());
  const fs::path config = path.parent_path() / "tokenizer_config.json";
  if (fs::exists(config)) format::apply_tokenizer_config(read_file(config), config.string(), spec);
  return text::Tokenizer(std::move(spec));
}

// tokenizer.json goes before tokenizer.model: it says more.
std::optional<text::Tokenizer> find_in_folder(const fs::path& folder) {
  if (fs::exists(folder / "tokenizer.json")) return open_json(folder / "tokenizer.json");
  if (fs::exists(folder / "tokenizer.model")) return open_sentencepiece(folder / "tokenizer.model");
  return std::nullopt;
}

}  // namespace

std::optional<text::Tokenizer> find_tokenizer(const fs::path& model) {
  if (model.extension() == ".json") return open_json(model);
  if (model.extension() == ".model") return open_sentencepiece(model);
  // A folder with only a tokenizer in it is enough for a tokenizer.
  if (auto tokenizer = find_in_folder(model)) return tokenizer;

  const fs::path path = format::resolve_model_path(model);
  if (fs::is_directory(path)) return find_in_folder(path);
  const format::GgufFile file(path);
  // "none": llama.cpp's word for a file without a vocabulary, as moiety bench --synthetic writes it.
  const format::GgufMetadata& metadata = file.metadata();
  if (!metadata.has("tokenizer.ggml.model") || metadata.text("tokenizer.ggml.model") == "none") return std::nullopt;
  return text::Tokenizer(format::read_gguf_tokenizer(metadata));
}

text::Tokenizer open_tokenizer(const fs::path& model) {
  std::optional<text::Tokenizer> tokenizer = find_tokenizer(model);
  require(tokenizer.has_value(), "{}: the model comes without a tokenizer", model.string());
  return std::move(*tokenizer);
}

}  // namespace moiety::cli
