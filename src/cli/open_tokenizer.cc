#include "cli/open_tokenizer.h"

#include "base/error.h"
#include "format/gguf_tokenizer.h"
#include "format/model_path.h"
#include "format/tokenizer_json.h"

namespace moiety::cli {
namespace {

text::Tokenizer open_json(const fs::path& path) {
  const MappedFile file(path);
  return text::Tokenizer(format::read_tokenizer_json(file.text(), path.string()));
}

}  // namespace

std::optional<text::Tokenizer> find_tokenizer(const fs::path& model) {
  if (model.extension() == ".json") return open_json(model);
  // A folder with only a tokenizer in it is enough for a tokenizer.
  if (fs::exists(model / "tokenizer.json")) return open_json(model / "tokenizer.json");

  const fs::path path = format::resolve_model_path(model);
  if (fs::is_directory(path)) {
    if (!fs::exists(path / "tokenizer.json")) return std::nullopt;
    return open_json(path / "tokenizer.json");
  }
  const format::GgufFile file(path);
  if (!file.metadata().has("tokenizer.ggml.model")) return std::nullopt;
  return text::Tokenizer(format::read_gguf_tokenizer(file.metadata()));
}

text::Tokenizer open_tokenizer(const fs::path& model) {
  std::optional<text::Tokenizer> tokenizer = find_tokenizer(model);
  require(tokenizer.has_value(), "{}: the model comes without a tokenizer", model.string());
  return std::move(*tokenizer);
}

}  // namespace moiety::cli
