#include "cli/gguf_metadata.h"

#include "cli/open_chat_template.h"
#include "cli/open_tokenizer.h"
#include "format/gguf_config.h"
#include "format/gguf_tokenizer.h"

namespace moiety::cli {

format::GgufMetadata gguf_metadata(const format::ModelFile& model, const format::Family& family, spec::ElementType type,
                                   const fs::path& out) {
  const spec::ModelSpec& spec = model.spec();
  format::GgufMetadata metadata;
  metadata.where = out.string();
  format::add_gguf_config(spec, family, type, out.stem().string(), metadata);
  if (const auto tokenizer = find_tokenizer(model.path())) {
    format::add_gguf_tokenizer(tokenizer->spec(), spec.vocab_size, spec.bos_token, spec.eos_tokens, metadata);
    for (const auto& [name, source] : find_chat_template(model.path()).sources) {
      metadata.set(name == "default" ? "tokenizer.chat_template" : "tokenizer.chat_template." + name, source);
    }
  }
  return metadata;
}

}  // namespace moiety::cli
