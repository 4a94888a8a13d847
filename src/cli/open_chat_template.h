// The chat template that comes with a model, as the model's files have it.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/file.h"
#include "format/gguf.h"
#include "text/chat_template.h"

namespace moiety::cli {

struct ChatTemplateFiles {
  std::map<std::string, std::string> sources;  // by name, the plain one is "default"; empty: the model has none
  std::map<std::string, std::string> tokens;   // bos_token, eos_token, …
  std::string where;
};

// From a Hugging Face folder: chat_template.jinja and additional_chat_templates/, else tokenizer_config.json.
ChatTemplateFiles chat_template_of_folder(const fs::path& folder);
// From GGUF metadata: tokenizer.chat_template and tokenizer.chat_template.NAME.
ChatTemplateFiles chat_template_of_gguf(const format::GgufMetadata& metadata);
// `model` is what format::resolve_model_path takes.
ChatTemplateFiles find_chat_template(const fs::path& model);

// Throws Error(Input) if the model has none.
text::ChatTemplate open_chat_template(const fs::path& model);

}  // namespace moiety::cli
