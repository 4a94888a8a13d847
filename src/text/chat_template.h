// A model's chat template: messages to the text of a prompt. Where it comes from is the caller's business
// (cli/open_chat_template); the language is jinja/.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "jinja/template.h"

namespace moiety::text {

class ChatTemplate {
 public:
  // By name; "default" is the one that is used unless the context brings tools and there is a "tool_use". `tokens` are
  // the special tokens that templates name: bos_token, eos_token, … `where` is for error sentences.
  // Throws jinja::TemplateError for a template that cannot be parsed.
  ChatTemplate(const std::map<std::string, std::string>& sources, std::map<std::string, std::string> tokens,
               const std::string& where);

  // The prompt. Names that the context does not have are added: the tokens, and tools and documents as none, as
  // transformers does. Throws jinja::TemplateError.
  std::string render(const jinja::Context& context, const jinja::DateTime& now) const;

  // The source of the template that this context uses, for finding out how replies are marked.
  const std::string& source(bool with_tools) const;
  const std::map<std::string, std::string>& tokens() const { return tokens_; }

 private:
  struct Named {
    std::string source;
    jinja::Template parsed;
  };
  const Named& chosen(bool with_tools) const;

  std::map<std::string, Named> templates_;  // at least one
  std::map<std::string, std::string> tokens_;
};

}  // namespace moiety::text
